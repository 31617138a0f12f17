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

}  // namespace koios
