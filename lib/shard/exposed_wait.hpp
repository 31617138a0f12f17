// How long the computation stood still for communication in one step, by the device's own clock: a
// region around each wait of the compute stream, read when a line is logged. On the host the wait
// is the calling thread's and the communicator counts it (Communicator::host_seconds).
#pragma once

#include "runtime/region.hpp"

namespace koios {

class ExposedWait {
 public:
  explicit ExposedWait(Stream& compute) : compute_(compute), waits_(compute.backend()) {}

  /// compute.wait(event), timed.
  void wait(const Event& event) {
    run([&] { compute_.wait(event); });
  }
  /// communicate(), which enqueues communication on the compute stream itself, timed.
  template <class Communicate>
  void run(const Communicate& communicate) {
    const bool is_device = compute_.backend() == Backend::cuda;
    const Region region(is_device ? &waits_ : nullptr, compute_, "wait");
    const Region traced(compute_, "wait");
    communicate();
  }
  /// Forgets the step before.
  void start_step() { waits_.restart(compute_); }
  /// Seconds of the step since start_step(). The compute stream must have passed its last wait.
  double seconds() const { return waits_.seconds(); }

 private:
  Stream& compute_;
  Trace waits_;
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
  void start_step() {
    for (ExposedWait* wait : {&gather, &reduce, &tensor, &pipeline, &context}) wait->start_step();
  }
  WaitSeconds seconds() const {
    return {gather.seconds(), reduce.seconds(), tensor.seconds(), pipeline.seconds(),
            context.seconds()};
  }
};

}  // namespace koios
