// How long the computation stood still for communication in one step, by the device's own clock:
// events around each wait of the compute stream, read when a line is logged. On the host the wait
// is the calling thread's and the communicator counts it (Communicator::host_seconds).
#pragma once

#include <cstddef>
#include <deque>

#include "runtime/stream.hpp"

namespace koios {

class ExposedWait {
 public:
  explicit ExposedWait(Stream& compute) : compute_(compute) {}

  /// compute.wait(event), measured.
  void wait(const Event& event);
  /// communicate(), which enqueues communication on the compute stream itself, measured.
  template <class Communicate>
  void measure(const Communicate& communicate) {
    Pair* pair = next();
    if (pair != nullptr) pair->before.record(compute_);
    communicate();
    if (pair != nullptr) pair->after.record(compute_);
  }
  /// Forgets the step before.
  void start_step() { used_ = 0; }
  /// Seconds of the step since start_step(). The compute stream must have passed its last wait.
  double seconds() const;

 private:
  struct Pair {
    Event before;
    Event after;
  };
  /// Null on the host.
  Pair* next();

  Stream& compute_;
  std::deque<Pair> pairs_;
  std::size_t used_ = 0;
};

}  // namespace koios
