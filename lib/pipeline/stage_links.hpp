// What a stage exchanges with its neighbours: activations forward, their gradients backward. Each
// direction of each boundary has a communicator and a stream of its own, so that a transfer that
// waits for the other rank holds up nothing else: neither the computation nor another transfer.
#pragma once

#include <map>
#include <vector>

#include "comm/mesh.hpp"
#include "model/activations.hpp"
#include "shard/exposed_wait.hpp"

namespace koios {

/// One direction of one boundary, as seen by the rank at one of its ends.
class StageLink {
 public:
  /// scratch: overwritten.
  StageLink(Communicator& pair, AnyRef scratch, Stream& compute);

  /// Begins to receive once the computation enqueued so far, and `after`, are done.
  void receive(AnyRef into, Event& done, const Event* after = nullptr);
  /// Sends what the computation enqueued so far leaves there.
  void send(AnyRef from, Event& done);

  Stream& stream() { return stream_; }

 private:
  void await_computation();
  int peer() const { return 1 - pair_.rank(); }

  Communicator& pair_;
  Stream& compute_;
  Stream stream_;
  Event computed_;
};

/// Those of all runs of a stage. Gradients are received into, and sent from, the slot of their
/// micro-batch.
class StageLinks {
 public:
  /// Collective over the stages. path: the stages that a micro-batch visits; scratch: overwritten.
  StageLinks(const Mesh& mesh, const std::vector<int>& path, const StageShape& shape,
             AnyRef scratch, Stream& compute, ExposedWait& exposed);

  void receive(int run, AnyRef into, int input);
  void send(int run, AnyRef from, int output);
  void receive_gradient(int run, AnyRef into, int slot);
  void send_gradient(int run, AnyRef from, int slot);
  bool sends_gradients(int run) const {
    return ends_[static_cast<std::size_t>(run)].gradients_out != nullptr;
  }

  // The computation enqueued from now on begins when the last transfer of the tensor is done.

  void await_received(int input) { exposed_.wait(of(received_, input)); }
  void await_sent(int output) { exposed_.wait(of(sent_, output)); }
  void await_received_gradient(int slot) { exposed_.wait(of(received_gradient_, slot)); }
  void await_sent_gradient(int slot) { exposed_.wait(of(sent_gradient_, slot)); }

  /// One for each link, in the order of Mesh::links().
  const std::vector<Stream*>& streams() const { return streams_; }

 private:
  /// Of a run; null where the model begins or ends, or the stage hands over to its own next run.
  struct Ends {
    StageLink* activations_in = nullptr;
    StageLink* activations_out = nullptr;
    StageLink* gradients_in = nullptr;
    StageLink* gradients_out = nullptr;
  };
  Ends& ends(int run) { return ends_[static_cast<std::size_t>(run)]; }
  static Event& of(std::vector<Event>& events, int number) {
    return events[static_cast<std::size_t>(number)];
  }

  ExposedWait& exposed_;
  std::map<const Communicator*, StageLink> links_;
  std::vector<Stream*> streams_;
  std::vector<Ends> ends_;  // by run
  /// When the last transfer is done: by input, output and slot.
  std::vector<Event> received_, sent_, received_gradient_, sent_gradient_;
};

}  // namespace koios
