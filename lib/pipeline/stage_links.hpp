// What a stage exchanges with its neighbours: activations forward, their gradients backward. Each
// direction of each boundary has a communicator and a stream of its own, so that a transfer that
// waits for the other rank holds up nothing else: neither the computation nor another transfer.
#pragma once

#include <optional>
#include <vector>

#include "comm/mesh.hpp"
#include "shard/exposed_wait.hpp"

namespace koios {

/// One direction of one boundary, as seen by the rank at one of its ends.
class StageLink {
 public:
  /// buffers: how many tensors are sent from, or received into, in turn. scratch: overwritten.
  StageLink(Communicator& pair, int buffers, AnyRef scratch, Stream& compute, ExposedWait& exposed);

  /// Begins to receive once the computation enqueued so far, and `after`, are done.
  void receive(AnyRef into, int buffer, const Event* after = nullptr);
  /// Sends what the computation enqueued so far leaves there.
  void send(AnyRef from, int buffer);
  /// The computation enqueued from now on begins when the last transfer of the buffer is done.
  void wait(int buffer) { exposed_.wait(done(buffer)); }
  const Event& done(int buffer) const { return done_[static_cast<std::size_t>(buffer)]; }

 private:
  void await_computation();
  int peer() const { return 1 - pair_.rank(); }

  Communicator& pair_;
  Stream& compute_;
  ExposedWait& exposed_;
  Stream stream_;
  Event computed_;
  std::vector<Event> done_;  // by buffer
};

/// Those that a stage has. Gradients are received into, and sent from, the slot of their
/// micro-batch.
struct StageLinks {
  std::optional<StageLink> activations_in, activations_out, gradients_in, gradients_out;

  /// Collective over the stages. scratch: overwritten.
  StageLinks(const Mesh& mesh, int inputs, int outputs, int slots, AnyRef scratch, Stream& compute,
             ExposedWait& exposed);
};

}  // namespace koios
