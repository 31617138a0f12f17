// How long the computation stood still for communication, by the device's own clock: a pair of
// events around each wait of the compute stream. Those that were reached are added up while the
// host enqueues the next step, so that a line has little left to read. On the host the wait is the
// calling thread's and the communicator counts it (Communicator::host_seconds).
#pragma once

#include <deque>
#include <vector>

#include "runtime/region.hpp"

namespace koios {

class ExposedWait {
 public:
  explicit ExposedWait(Stream& compute) : compute_(compute) {}

  /// compute.wait(event), timed.
  void wait(const Event& event) {
    run([&] { compute_.wait(event); });
  }
  /// communicate(), which enqueues communication on the compute stream itself, timed.
  template <class Communicate>
  void run(const Communicate& communicate) {
    const Region region(compute_, "wait");
    if (compute_.backend() == Backend::host) return communicate();
    Wait timed = begin();
    communicate();
    end(std::move(timed));
  }
  /// Before the waits of a step: is_counted says whether take_seconds() will have them.
  void start_step(bool is_counted);
  /// Seconds of all counted steps since it was asked last. The compute stream must have passed
  /// their last wait.
  double take_seconds();

 private:
  struct Wait {
    Event begin, end;
    bool is_counted;
  };
  Wait begin();
  void end(Wait wait);
  /// Adds up what the stream has passed.
  void collect();

  Stream& compute_;
  bool is_counted_ = true;
  std::deque<Wait> pending_;
  std::vector<Wait> idle_;  // to be used again
  double seconds_ = 0;
};

/// Seconds that a rank waited for communication, by what it waited for.
struct WaitSeconds {
  double gather = 0;    // parameters
  double reduce = 0;    // gradients
  double tensor = 0;    // tensor parallelism
  double pipeline = 0;  // of another stage
  double context = 0;   // keys, values and their gradients

  double total() const { return gather + reduce + tensor + pipeline + context; }
  WaitSeconds& operator+=(const WaitSeconds& o) {
    return *this = {gather + o.gather, reduce + o.reduce, tensor + o.tensor, pipeline + o.pipeline,
                    context + o.context};
  }
  WaitSeconds operator-(const WaitSeconds& o) const {
    return {gather - o.gather, reduce - o.reduce, tensor - o.tensor, pipeline - o.pipeline,
            context - o.context};
  }
  WaitSeconds operator/(double n) const {
    return {gather / n, reduce / n, tensor / n, pipeline / n, context / n};
  }
};

/// One for each kind of communication.
struct ExposedWaits {
  ExposedWait gather, reduce, tensor, pipeline, context;

  explicit ExposedWaits(Stream& compute)
      : gather(compute), reduce(compute), tensor(compute), pipeline(compute), context(compute) {}
  void start_step(bool is_counted) {
    for (ExposedWait* wait : {&gather, &reduce, &tensor, &pipeline, &context})
      wait->start_step(is_counted);
  }
  WaitSeconds take_seconds() {
    return {gather.take_seconds(), reduce.take_seconds(), tensor.take_seconds(),
            pipeline.take_seconds(), context.take_seconds()};
  }
};

}  // namespace koios
