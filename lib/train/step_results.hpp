// Loss and gradient norm of the steps, and what casts to FP8 have counted, since the last log,
// copied out without waiting and read when a line is due: then the host waits for the device. It
// also waits when a norm has come that is not finite.
#pragma once

#include <array>
#include <vector>

#include "kernels/fp8.hpp"
#include "runtime/copy.hpp"
#include "runtime/stream.hpp"

namespace koios {

struct StepResult {
  double loss = 0;       // mean over this rank's label tokens; 0 where another stage has it
  double grad_norm = 0;  // global, before clipping
};

/// By Fp8Count.
using Fp8Counts = std::array<std::int64_t, kFp8Counts>;

class StepResults {
 public:
  /// capacity: most steps between two reads. tokens: label tokens of this rank in one step.
  StepResults(Backend backend, std::int64_t capacity, std::int64_t tokens);

  /// Enqueues the copy of one step's values. fp8_counts: empty without FP8.
  void record(Stream& compute, Ref<const float, 1> loss_sum, Ref<const float, 1> grad_norm,
              Ref<const std::int64_t, 1> fp8_counts);
  bool full() const { return count_ == capacity_; }
  /// Whether a step that has come to its end had a norm that is not finite; waits for none.
  bool has_nonfinite() const;
  /// Waits for what was recorded, hands it out in order, and starts anew.
  std::vector<StepResult> read();
  /// Of the last step that was read, since the start.
  Fp8Counts fp8_counts() const;

 private:
  std::int64_t capacity_;
  std::int64_t tokens_;
  std::int64_t count_ = 0;
  PinnedBuffer values_;
  PinnedBuffer fp8_counts_;
  Event last_;
};

}  // namespace koios
