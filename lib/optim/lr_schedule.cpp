#include "optim/lr_schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.hpp"

namespace koios {

LrSchedule::LrSchedule(const LrSchedulerConfig& config, double lr, std::int64_t steps,
                       std::int64_t warmup_steps)
    : config_(config), lr_(lr), steps_(steps), warmup_(warmup_steps) {}

double LrSchedule::factor(std::int64_t k) const {
  if (k < warmup_) return static_cast<double>(k + 1) / static_cast<double>(warmup_ + 1);
  const double lowest = config_.min_lr_ratio;
  const auto falling = [&](double rest) {
    return lowest + (1 - lowest) * std::clamp(rest, 0.0, 1.0);
  };
  const auto decay = static_cast<double>(std::max<std::int64_t>(1, steps_ - warmup_));
  const double x = static_cast<double>(k - warmup_) / decay;
  switch (config_.type) {
    case LrScheduleType::linear:
      return falling(1 - x);
    case LrScheduleType::cosine:
      return falling((1 + std::cos(std::numbers::pi * x)) / 2);
    case LrScheduleType::wsd: {
      const std::int64_t left = steps_ - k;
      if (left > config_.decay_steps || config_.decay_steps == 0) return 1;
      return falling(static_cast<double>(left) / static_cast<double>(config_.decay_steps));
    }
  }
  KOIOS_REQUIRE(false, "unknown schedule");
}

}  // namespace koios
