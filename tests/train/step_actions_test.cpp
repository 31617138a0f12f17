// The list of actions of a step as text: what is gathered when, what is computed again, when
// gradients leave. A pure function of the schedule, the units and their buffers.
#include "train/step_actions.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "action_text.hpp"

namespace koios {
namespace {

/// A model of three blocks on `ranks` data-parallel ranks, in float32.
TrainingShape small(int ranks) {
  TrainingShape shape;
  shape.model = {
      .dim = 64, .n_layers = 3, .n_heads = 4, .n_kv_heads = 4, .ffn_dim = 96, .vocab_size = 128};
  shape.micro_batch = {2, 16};
  shape.mesh.extent = {1, 1, ranks, 1, 1};
  return shape;
}

std::string training(const TrainingShape& shape) {
  const ShardLayout layout = shard_layout(shape, 0);
  return testing::action_text(training_actions(shape, layout), layout);
}

int count(const std::string& text, const std::string& line) {
  std::istringstream lines(text);
  int found = 0;
  for (std::string l; std::getline(lines, l);) found += l.starts_with(line) ? 1 : 0;
  return found;
}

TEST(StepActions, gathers_one_unit_ahead_and_reduces_at_once) {
  EXPECT_EQ(training(small(2)),
            "load 0\n"
            "gather embedding 0\n"
            "gather layers.0 0\n"
            "forward embedding 0\n"
            "gather layers.1 0\n"
            "forward layers.0 0\n"
            "gather layers.2 0\n"
            "forward layers.1 0\n"
            "gather head 0\n"
            "forward layers.2 0\n"
            "forward head 0\n"
            "reduce head 0\n"
            "backward layers.2 0\n"  // still gathered, as is layers.1
            "reduce layers.2 0\n"
            "gather layers.0 0\n"
            "backward layers.1 0\n"
            "reduce layers.1 0\n"
            "backward layers.0 0\n"
            "reduce layers.0 0\n"
            "backward embedding 0\n"
            "reduce embedding 0\n"
            "update\n");
}

TEST(StepActions, one_rank_in_float32_neither_gathers_nor_reduces) {
  TrainingShape shape = small(1);
  shape.reduce.micro_batches = 2;
  const std::string text = training(shape);
  EXPECT_EQ(count(text, "gather"), 0);
  EXPECT_EQ(count(text, "reduce"), 0);
  EXPECT_EQ(count(text, "backward layers.1 0"), 1);
  EXPECT_EQ(count(text, "backward layers.1 1 +"), 1);  // adds to what is there
  EXPECT_EQ(count(text, "forward head 1 +"), 1);
}

TEST(StepActions, recomputes_what_the_scratch_does_not_hold) {
  TrainingShape shape = small(1);
  shape.recompute = {Recompute::full, 1};
  const std::string text = training(shape);
  EXPECT_EQ(count(text, "recompute layers.2"), 0);  // the forward pass has just left it there
  EXPECT_EQ(count(text, "recompute layers.1 0"), 1);
  EXPECT_EQ(count(text, "recompute layers.0 0"), 1);
  EXPECT_LT(text.find("recompute layers.1"), text.find("backward layers.1"));
}

TEST(StepActions, gradients_leave_after_each_micro_batch_or_after_the_last) {
  TrainingShape shape = small(2);
  shape.reduce.micro_batches = 3;
  std::string text = training(shape);
  EXPECT_EQ(count(text, "reduce layers.1"), 3);
  EXPECT_EQ(count(text, "reduce layers.1 0 +"), 0);
  EXPECT_EQ(count(text, "reduce layers.1 2 +"), 1);  // the shard holds the sum so far
  EXPECT_EQ(count(text, "backward layers.1 2 +"), 0);
  shape.reduce.every_micro_batch = false;
  text = training(shape);
  EXPECT_EQ(count(text, "reduce layers.1"), 1);
  EXPECT_EQ(count(text, "reduce layers.1 2"), 1);
  EXPECT_EQ(count(text, "backward layers.1 2 +"), 1);  // the full gradients do
}

TEST(StepActions, replicas_add_up_each_unit_once_when_its_last_gradients_have_left) {
  TrainingShape shape = small(2);
  shape.mesh.extent[static_cast<std::size_t>(Axis::dp_replicate)] = 2;
  shape.reduce.micro_batches = 2;
  std::string text = training(shape);
  EXPECT_EQ(count(text, "all-reduce"), 5);
  for (const char* unit : {"head", "layers.2", "layers.1", "layers.0", "embedding"}) {
    EXPECT_NE(text.find(cat("reduce ", unit, " 1 +\nall-reduce ", unit, " 1\n")), std::string::npos)
        << unit;
  }
  // With nothing sharded, the GEMMs' own output.
  shape.mesh.extent[static_cast<std::size_t>(Axis::dp_shard)] = 1;
  text = training(shape);
  EXPECT_EQ(count(text, "reduce"), 0);
  EXPECT_NE(text.find("backward layers.1 1 +\nall-reduce layers.1 1\n"), std::string::npos);
  const ShardLayout layout = shard_layout(shape, 0);
  EXPECT_EQ(count(testing::action_text(evaluation_actions(shape, layout), layout), "all-reduce"),
            0);
}

TEST(StepActions, blocks_kept_gathered_travel_once) {
  TrainingShape shape = small(2);
  shape.reduce.micro_batches = 3;
  shape.gather.reshard_after_forward = false;
  EXPECT_EQ(count(training(shape), "gather"), 5);
}

TEST(StepActions, without_prefetch_a_unit_is_gathered_when_it_is_wanted) {
  TrainingShape shape = small(2);
  shape.gather.prefetch_blocks = 0;
  const std::string text = training(shape);
  EXPECT_EQ(count(text, "gather layers"), 3 + 2);  // layers.2 is still there
  EXPECT_NE(text.find("gather layers.1 0\nforward layers.1 0\n"), std::string::npos);
  EXPECT_NE(text.find("gather layers.1 0\nbackward layers.1 0\n"), std::string::npos);
}

TEST(StepActions, on_gpus_keys_of_other_ranks_go_before_the_next_weights) {
  TrainingShape shape = small(2);
  const std::string ahead = "gather layers.1 0\nforward layers.0 0\n";
  const std::string behind = "forward layers.0 0\ngather layers.1 0, behind\n";
  const auto has = [&](int context_ranks, const std::string& lines) {
    shape.mesh.extent[static_cast<std::size_t>(Axis::cp)] = context_ranks;
    return training(shape).find(lines) != std::string::npos;
  };
  shape.backend = Backend::cuda;
  EXPECT_TRUE(has(1, ahead));
  EXPECT_TRUE(has(2, behind));
  EXPECT_TRUE(has(2, "backward layers.1 0\ngather layers.0 0, behind\n"));
  EXPECT_EQ(count(training(shape), "gather layers"), 3 + 1);  // two are still there
  shape.gather.prefetch_blocks = 0;
  EXPECT_TRUE(has(2, "gather layers.1 0\nforward layers.1 0\n"));  // it is waited for
  shape.gather.prefetch_blocks = 1;
  shape.backend = Backend::host;
  EXPECT_TRUE(has(2, ahead));
}

TEST(StepActions, evaluation_goes_forward_only) {
  const TrainingShape shape = small(2);
  const ShardLayout layout = shard_layout(shape, 0);
  const std::string text = testing::action_text(evaluation_actions(shape, layout), layout);
  EXPECT_EQ(count(text, "evaluate head 0"), 1);
  EXPECT_EQ(count(text, "backward"), 0);
  EXPECT_EQ(count(text, "update"), 0);
}

}  // namespace
}  // namespace koios
