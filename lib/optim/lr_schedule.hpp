// The learning rate of each step: linear warm-up, then linear decay (torchtitan's formula), cosine
// decay, or warm-up-stable-decay.
#pragma once

#include <cstdint>

#include "config/run_config.hpp"

namespace koios {

class LrSchedule {
 public:
  LrSchedule(const LrSchedulerConfig& config, double lr, std::int64_t steps,
             std::int64_t warmup_steps);

  /// The rate used by the step taken after `steps_done` steps, steps_done in [0, steps).
  double lr(std::int64_t steps_done) const { return lr_ * factor(steps_done); }
  /// warm-up: (k + 1) / (warmup + 1). Then with D = max(1, steps - warmup), x = (k - warmup) / D
  /// and r = min_lr_ratio: linear r + (1 - r)(1 - x); cosine r + (1 - r)(1 + cos pi x) / 2; wsd 1,
  /// until the last decay_steps fall linearly to r.
  double factor(std::int64_t steps_done) const;

 private:
  LrSchedulerConfig config_;
  double lr_;
  std::int64_t steps_;
  std::int64_t warmup_;
};

}  // namespace koios
