#include "optim/lr_schedule.hpp"

#include <gtest/gtest.h>

namespace koios {
namespace {

LrSchedulerConfig config(LrScheduleType type, double min_ratio = 0, std::int64_t decay = 0) {
  return {.type = type, .min_lr_ratio = min_ratio, .decay_steps = decay};
}

TEST(LrSchedule, linear_is_torchtitans) {
  // Printed by torchtitan's own formula for 10 steps, 2 of warm-up.
  const LrSchedule schedule(config(LrScheduleType::linear), 1, 10, 2);
  const double expected[] = {1.0 / 3, 2.0 / 3, 1,       7.0 / 8, 6.0 / 8,
                             5.0 / 8, 4.0 / 8, 3.0 / 8, 2.0 / 8, 1.0 / 8};
  for (int k = 0; k < 10; ++k) EXPECT_DOUBLE_EQ(schedule.factor(k), expected[k]) << k;
}

TEST(LrSchedule, cosine_falls_to_the_minimum) {
  const LrSchedule schedule(config(LrScheduleType::cosine, 0.1), 2, 100, 0);
  EXPECT_DOUBLE_EQ(schedule.lr(0), 2);
  EXPECT_NEAR(schedule.factor(50), 0.55, 1e-12);      // half way between 1 and 0.1
  EXPECT_NEAR(schedule.factor(99), 0.1, 0.9 * 3e-4);  // (1 - cos(pi / 100)) / 2 = 2.5e-4 above
}

TEST(LrSchedule, wsd_holds_then_decays) {
  const LrSchedule schedule(config(LrScheduleType::wsd, 0, 4), 1, 20, 3);
  EXPECT_DOUBLE_EQ(schedule.factor(0), 0.25);
  for (int k = 3; k <= 15; ++k) EXPECT_DOUBLE_EQ(schedule.factor(k), 1) << k;
  EXPECT_DOUBLE_EQ(schedule.factor(16), 1);
  EXPECT_DOUBLE_EQ(schedule.factor(17), 0.75);
  EXPECT_DOUBLE_EQ(schedule.factor(19), 0.25);
}

TEST(LrSchedule, no_steps_after_warmup) {
  const LrSchedule schedule(config(LrScheduleType::linear), 1, 2, 2);
  EXPECT_DOUBLE_EQ(schedule.factor(1), 2.0 / 3);
}

}  // namespace
}  // namespace koios
