#include "train/step_decision.hpp"

#include <gtest/gtest.h>

#include <string>

#include "config/run_config.hpp"

namespace koios {
namespace {

RunConfig run_of(std::int64_t steps) {
  RunConfig config;
  config.training.steps = steps;
  config.metrics.log_freq = 4;
  config.checkpoint.folder = "checkpoints";
  config.checkpoint.interval = 5;
  config.checkpoint.save_first_step = false;
  config.validation.dataset_path = "held_out";
  config.validation.interval = 6;
  return config;
}

/// "L" logged, "V" validated, "S" saved, "." last; for each step from 1 on.
std::string story(const RunConfig& config) {
  std::string text;
  for (std::int64_t step = 1; step <= config.training.steps; ++step) {
    const StepDecision d = decide(config, step, {});
    text += std::string(d.log ? "L" : "") + (d.validate ? "V" : "") + (d.save ? "S" : "") +
            (d.last ? "." : "") + (step < config.training.steps ? "|" : "");
    EXPECT_EQ(d.exit_code, ExitCode::done);
    EXPECT_EQ(d.is_end_of_run(), step == config.training.steps);
  }
  return text;
}

TEST(StepDecision, FollowsTheDeck) {
  //                          1  2 3 4 5  6  7 8 9 10 11 12 13
  EXPECT_EQ(story(run_of(13)), "L|||L|LS|LV||L||LS||LV|LVS.");
}

TEST(StepDecision, LeavesOutWhatIsOff) {
  RunConfig config = run_of(7);
  config.checkpoint.folder.clear();
  EXPECT_EQ(story(config), "L|||L||LV|LV.");
  config.validation.dataset_path.clear();
  EXPECT_EQ(story(config), "L|||L|||L.");
}

TEST(StepDecision, SavesTheFirstStepOnRequest) {
  RunConfig config = run_of(3);
  config.checkpoint.save_first_step = true;
  EXPECT_EQ(story(config), "LS||LVS.");
}

TEST(StepDecision, SavesByTheClockWhereThatIsTheUnit) {
  RunConfig config = run_of(20);
  config.checkpoint.interval_type = IntervalType::seconds;
  EXPECT_FALSE(decide(config, 5, {}).save);
  const StepDecision d = decide(config, 7, {.save = true});
  EXPECT_TRUE(d.save);
  EXPECT_TRUE(d.log);
  EXPECT_FALSE(d.last);
}

TEST(StepDecision, SavesAndEndsOnRequest) {
  const StepDecision d = decide(run_of(20), 7, {.stop = StopReason::sigterm});
  EXPECT_TRUE(d.save && d.log && d.last);
  EXPECT_EQ(d.stop, StopReason::sigterm);
  EXPECT_EQ(d.exit_code, ExitCode::stopped);
  EXPECT_FALSE(d.is_end_of_run());
}

TEST(StepDecision, AStopWaitsForNoValidation) {
  EXPECT_TRUE(decide(run_of(20), 6, {}).validate);
  EXPECT_FALSE(decide(run_of(20), 6, {.stop = StopReason::walltime}).validate);
}

TEST(StepDecision, AStopAtTheLastStepIsTheEnd) {
  const StepDecision d = decide(run_of(20), 20, {.stop = StopReason::walltime});
  EXPECT_TRUE(d.is_end_of_run());
  EXPECT_EQ(d.exit_code, ExitCode::done);
}

TEST(StepDecision, AStopThatCannotSaveIsNoResumableOne) {
  RunConfig config = run_of(20);
  config.checkpoint.folder.clear();
  const StepDecision d = decide(config, 7, {.stop = StopReason::sigint});
  EXPECT_TRUE(d.last && !d.save);
  EXPECT_EQ(d.exit_code, ExitCode::failure);
}

}  // namespace
}  // namespace koios
