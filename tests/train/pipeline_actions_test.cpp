// Schedules, the actions made of them, and the division of the model: pure functions.
#include <gtest/gtest.h>

#include "pipeline/partition.hpp"
#include "pipeline_simulator.hpp"
#include "train/traffic_plan.hpp"
#include "train/training_memory.hpp"

namespace koios::testing {
namespace {

TrainingShape staged(int stages, int micro_batches,
                     ScheduleKind schedule = ScheduleKind::one_f_one_b, int runs = 1) {
  TrainingShape shape;
  shape.model = {.dim = 64,
                 .n_layers = 2 * stages * runs,
                 .n_heads = 4,
                 .n_kv_heads = 4,
                 .ffn_dim = 96,
                 .vocab_size = 128};
  shape.micro_batch = {2, 16};
  shape.mesh.extent = {stages, 1, 1, 1, 1};
  shape.reduce.micro_batches = micro_batches;
  shape.reduce.every_micro_batch = false;
  shape.gather.reshard_after_forward = false;
  shape.pipeline.schedule = schedule;
  shape.pipeline.runs = runs;
  return shape;
}

std::string in_words(const std::vector<Pass>& schedule) {
  std::string text;
  for (const Pass& pass : schedule) {
    const char* kind = pass.kind == Pass::Kind::forward           ? "F"
                       : pass.kind == Pass::Kind::backward_weight ? "W"
                                                                  : "B";
    text += cat(text.empty() ? "" : " ", kind, pass.micro_batch, pass.run > 0 ? "'" : "");
  }
  return text;
}

TEST(Schedule, one_stage_takes_one_micro_batch_after_the_other) {
  for (const ScheduleKind kind : {ScheduleKind::one_f_one_b, ScheduleKind::gpipe}) {
    EXPECT_EQ(in_words(make_schedule(kind, {}, 3)), "F0 B0 F1 B1 F2 B2");
  }
}

TEST(Schedule, stages_of_1f1b_go_ahead_by_their_distance_from_the_last) {
  const auto words = [](int stage, int micro_batches) {
    return in_words(make_schedule(ScheduleKind::one_f_one_b, {3, stage}, micro_batches));
  };
  EXPECT_EQ(words(0, 4), "F0 F1 F2 B0 F3 B1 B2 B3");
  EXPECT_EQ(words(1, 4), "F0 F1 B0 F2 B1 F3 B2 B3");
  EXPECT_EQ(words(2, 4), "F0 B0 F1 B1 F2 B2 F3 B3");
  EXPECT_EQ(words(0, 1), "F0 B0");  // fewer micro-batches than stages
  EXPECT_EQ(in_words(make_schedule(ScheduleKind::gpipe, {3, 1}, 3)), "F0 F1 F2 B0 B1 B2");
}

// Qi et al. 2023, figure 2 (ZB-H1).
TEST(Schedule, weight_gradients_of_zero_bubble_are_later_the_later_the_stage) {
  const auto words = [](int stage, int micro_batches) {
    return in_words(make_schedule(ScheduleKind::zero_bubble, {3, stage}, micro_batches));
  };
  EXPECT_EQ(words(0, 4), "F0 F1 F2 B0 W0 F3 B1 W1 B2 W2 B3 W3");
  EXPECT_EQ(words(1, 4), "F0 F1 B0 F2 B1 W0 F3 B2 W1 B3 W2 W3");
  EXPECT_EQ(words(2, 4), "F0 B0 F1 B1 F2 B2 W0 F3 B3 W1 W2 W3");
  EXPECT_EQ(words(2, 1), "F0 B0 W0");
}

// Qi et al. 2023, figure 6 (ZB-V), of 4 stages the first and the last. A dash: on the way back.
TEST(Schedule, zero_bubble_v_goes_to_the_last_stage_and_back) {
  const auto words = [](int stage, int micro_batches) {
    return in_words(make_schedule(ScheduleKind::zero_bubble_v, {4, stage, 2}, micro_batches));
  };
  EXPECT_EQ(words(0, 8),
            "F0 F1 F2 F3 F4 F5 F6 F0' B0' W0' F1' B1' W1' F2' B2' W2' F3' B3' W3' "
            "F7 B0 W0 F4' B4' W4' B1 W1 F5' B5' W5' B2 W2 F6' B6' W6' B3 W3 F7' B7' W7' "
            "B4 W4 B5 W5 B6 W6 B7 W7");
  EXPECT_EQ(words(3, 8),
            "F0 F0' F1 F1' F2 F2' F3 F3' B0' W0' F4 B0 W0 F4' B1' W1' F5 B1 W1 F5' B2' W2' "
            "F6 B2 W2 F6' B3' W3' F7 B3 W3 F7' B4' W4' B4 B5' B5 B6' B6 B7' B7 W4 W5' W6' W7' "
            "W5 W6 W7");
  EXPECT_EQ(words(0, 1), "F0 F0' B0' W0' B0 W0");
}

// Narayanan et al. 2021, figure 4. A dash: through the second run.
TEST(Schedule, interleaved_runs_take_turns_of_as_many_micro_batches_as_stages) {
  const auto words = [](int stage) {
    return in_words(make_schedule(ScheduleKind::interleaved, {2, stage, 2}, 4));
  };
  EXPECT_EQ(words(0), "F0 F1 F0' F1' F2 B0' F3 B1' F2' B0 F3' B1 B2' B3' B2 B3");
  EXPECT_EQ(words(1), "F0 F1 F0' B0' F1' B1' F2 B0 F3 B1 F2' B2' F3' B3' B2 B3");
}

std::string text_of_stage(const TrainingShape& shape, int stage) {
  const ShardLayout layout = shard_layout(shape, stage);
  return action_text(training_actions(shape, layout), layout);
}

TEST(Pipeline, a_ring_of_stages_takes_a_micro_batch_round_and_round) {
  const TrainingShape shape = staged(2, 2, ScheduleKind::interleaved, 2);
  const std::string last = "forward layers.5 0\n";
  std::string text = text_of_stage(shape, 0);
  text.resize(text.find(last) + last.size());
  EXPECT_EQ(text,
            "load 0\n"
            "forward embedding 0\n"
            "forward layers.0 0\n"
            "forward layers.1 0\n"
            "send layers.1 0\n"
            "receive layers.4 0\n"
            "load 1\n"
            "forward embedding 1\n"
            "forward layers.0 1\n"
            "forward layers.1 1\n"
            "send layers.1 1\n"
            "receive layers.4 1\n"
            "reload layers.4 0\n"
            "forward layers.4 0\n"
            "forward layers.5 0\n");
}

TEST(Pipeline, zero_bubble_sends_before_it_forms_the_weights_gradients) {
  const TrainingShape shape = staged(2, 2, ScheduleKind::zero_bubble);
  EXPECT_EQ(text_of_stage(shape, 1),
            "receive layers.2 0\n"
            "load 0\n"
            "forward layers.2 0\n"
            "forward layers.3 0\n"
            "forward head 0\n"
            "receive layers.2 1\n"
            "backward input layers.3 0\n"
            "backward input layers.2 0\n"
            "send gradient layers.2 0\n"
            "load 1\n"
            "forward layers.2 1\n"
            "forward layers.3 1\n"
            "forward head 1 +\n"
            "backward input layers.3 1 +\n"
            "backward input layers.2 1 +\n"
            "send gradient layers.2 1\n"
            "backward weight layers.3 0\n"
            "backward weight layers.2 0\n"
            "backward weight layers.3 1 +\n"
            "backward weight layers.2 1 +\n"
            "update\n");
}

TEST(Pipeline, the_last_stage_of_zero_bubble_v_hands_over_to_itself) {
  const TrainingShape shape = staged(2, 1, ScheduleKind::zero_bubble_v, 2);
  EXPECT_EQ(text_of_stage(shape, 1),
            "receive layers.2 0\n"
            "load 0\n"
            "forward layers.2 0\n"
            "forward layers.3 0\n"
            "hand over layers.3 0\n"
            "receive gradient layers.5 0\n"
            "reload layers.4 0\n"
            "forward layers.4 0\n"
            "forward layers.5 0\n"
            "send layers.5 0\n"
            "backward input layers.5 0\n"
            "backward input layers.4 0\n"
            "hand back layers.4 0\n"
            "backward weight layers.5 0\n"
            "backward weight layers.4 0\n"
            "backward input layers.3 0\n"
            "backward input layers.2 0\n"
            "send gradient layers.2 0\n"
            "backward weight layers.3 0\n"
            "backward weight layers.2 0\n"
            "update\n");
}

TEST(Pipeline, a_stage_receives_and_sends_around_its_passes) {
  const TrainingShape shape = staged(2, 2);
  EXPECT_EQ(text_of_stage(shape, 0),
            "load 0\n"
            "forward embedding 0\n"
            "forward layers.0 0\n"
            "forward layers.1 0\n"
            "send layers.1 0\n"
            "receive gradient layers.1 0\n"  // travels beside the next pass
            "load 1\n"
            "forward embedding 1\n"
            "forward layers.0 1\n"
            "forward layers.1 1\n"
            "send layers.1 1\n"
            "receive gradient layers.1 1\n"
            "backward layers.1 0\n"
            "backward layers.0 0\n"
            "backward embedding 0\n"
            "backward layers.1 1 +\n"
            "backward layers.0 1 +\n"
            "backward embedding 1 +\n"
            "update\n");
}

TEST(Pipeline, no_stage_waits_for_ever_and_the_bubble_is_the_formulas) {
  for (const ScheduleKind kind :
       {ScheduleKind::one_f_one_b, ScheduleKind::zero_bubble, ScheduleKind::gpipe}) {
    for (const int stages : {2, 3, 4, 8}) {
      for (const int micro_batches : {1, 2, 3, 4, 7, 8, 16, 32}) {
        SCOPED_TRACE(cat(to_string(kind), ", ", stages, " stages, ", micro_batches));
        const TrainingShape shape = staged(stages, micro_batches, kind);
        const Simulated run = Simulator(shape).run();
        EXPECT_EQ(run.problem, "");
        EXPECT_NEAR(run.bubble(), bubble(kind, stages, 1, micro_batches), 1e-12);
        for (int stage = 0; stage < stages; ++stage) {
          int most = micro_batches;
          if (kind == ScheduleKind::one_f_one_b) most = std::min(most, stages - stage);
          if (kind == ScheduleKind::zero_bubble) most = std::min(most, stages);
          EXPECT_EQ(run.most_in_flight[static_cast<std::size_t>(stage)], most);
        }
        EXPECT_EQ(Simulator(shape, Waiting::for_partners).run().problem, "");
      }
    }
  }
}

TEST(Pipeline, interleaved_runs_divide_the_bubble) {
  for (const int stages : {2, 3, 4, 8}) {
    for (const int runs : {2, 3, 4}) {
      for (const int groups : {1, 2, 3, 4}) {
        SCOPED_TRACE(cat(stages, " stages, ", runs, " runs, ", groups));
        const int micro_batches = groups * stages;
        const TrainingShape shape = staged(stages, micro_batches, ScheduleKind::interleaved, runs);
        const Simulated run = Simulator(shape).run();
        EXPECT_EQ(run.problem, "");
        EXPECT_NEAR(run.bubble(), bubble(ScheduleKind::interleaved, stages, runs, micro_batches),
                    1e-12);
        for (int stage = 0; stage < stages; ++stage) {
          const int ahead = 2 * (stages - 1 - stage) + (runs - 1) * stages;
          EXPECT_EQ(run.most_in_flight[static_cast<std::size_t>(stage)],
                    std::min(ahead + 1, micro_batches * runs));
        }
      }
    }
  }
}

// The memory of 1F1B's first stage, in halves of a stage's blocks, and half of zero_bubble's
// bubble.
TEST(Pipeline, zero_bubble_v_waits_only_for_the_first_micro_batch) {
  for (int stages = 2; stages <= 8; ++stages) {
    for (int micro_batches = 1; micro_batches <= 16; ++micro_batches) {
      SCOPED_TRACE(cat(stages, " stages, ", micro_batches));
      const TrainingShape shape = staged(stages, micro_batches, ScheduleKind::zero_bubble_v, 2);
      const Simulated run = Simulator(shape).run();
      EXPECT_EQ(run.problem, "");
      EXPECT_NEAR(run.bubble(), bubble(ScheduleKind::zero_bubble_v, stages, 2, micro_batches),
                  1e-12);
      if (micro_batches >= 2 * stages) {
        EXPECT_NEAR(run.bubble(), (stages - 1.0) / (6 * micro_batches + stages - 1), 1e-12);
      } else if (micro_batches <= stages) {
        EXPECT_NEAR(run.bubble(), bubble(ScheduleKind::zero_bubble, stages, 1, micro_batches),
                    1e-12);
      }
      for (int stage = 0; stage < stages; ++stage) {
        const int most = run.most_in_flight[static_cast<std::size_t>(stage)];
        EXPECT_LE(most, 2 * std::min(stages, micro_batches));
        EXPECT_LE(shape.stage(stage).slots(), 2 * stages + 1);
      }
    }
  }
}

// Where the input's part of the backward pass takes longer, the stages wait for that.
TEST(Pipeline, zero_bubble_waits_for_the_gradients_of_inputs_only) {
  const TrainingShape shape = staged(4, 8, ScheduleKind::zero_bubble);
  const PassTimes times{.forward = 1, .backward_input = 1.3, .backward_weight = 1};
  const Simulated run = Simulator(shape, Waiting::for_buffers, times).run();
  EXPECT_NEAR(run.time, run.work + 3 * 1.3, 1e-12);
  EXPECT_NEAR(run.bubble(), 0.129, 5e-4);
  const TrainingShape back = staged(4, 8, ScheduleKind::zero_bubble_v, 2);
  EXPECT_NEAR(Simulator(back, Waiting::for_buffers, times).run().bubble(), 0.069, 5e-4);
}

TEST(Pipeline, the_simulator_sees_what_is_wrong) {
  const TrainingShape shape = staged(2, 4);
  const auto send = [](const Action& action) { return action.kind == Action::Kind::send; };
  Simulator forgets(shape);
  std::erase_if(forgets.actions(0), send);
  EXPECT_NE(forgets.run().problem.find("stage 1 stands at 'forward layers.2 0'"),
            std::string::npos);

  Simulator confuses(shape);
  std::vector<Action>& actions = confuses.actions(0);
  const auto first = std::find_if(actions.begin(), actions.end(), send);
  std::iter_swap(first, std::find_if(first + 1, actions.end(), send));
  EXPECT_NE(confuses.run().problem.find("sent before it is computed"), std::string::npos);

  Simulator hurries(shape);
  const auto load = std::find(hurries.actions(1).begin(), hurries.actions(1).end(),
                              Action{Action::Kind::load, -1, 1});
  std::rotate(hurries.actions(1).begin() + 1, load, load + 1);
  EXPECT_NE(hurries.run().problem, "");

  const TrainingShape split = staged(2, 4, ScheduleKind::zero_bubble);
  Simulator forestalls(split);
  std::vector<Action>& second = forestalls.actions(1);
  const auto weight = std::find_if(second.begin(), second.end(), [](const Action& action) {
    return action.kind == Action::Kind::backward_weight;
  });
  std::rotate(second.begin() + 3, weight, weight + 1);
  EXPECT_NE(forestalls.run().problem.find("its gradients are not there"), std::string::npos);

  const TrainingShape back = staged(2, 4, ScheduleKind::zero_bubble_v, 2);
  Simulator withholds(back);
  std::erase_if(withholds.actions(1),
                [](const Action& action) { return action.kind == Action::Kind::hand_back; });
  EXPECT_NE(withholds.run().problem.find("its gradient is not there"), std::string::npos);
}

TEST(Pipeline, every_parameter_belongs_to_one_stage) {
  const TrainingShape shape = staged(4, 4);
  const std::size_t units = shard_layout(shape, 0).units().size();
  for (std::size_t unit = 0; unit < units; ++unit) {
    int holders = 0;
    for (int rank = 0; rank < 4; ++rank) {
      holders += shard_layout(shape, rank).units()[unit].is_held ? 1 : 0;
    }
    EXPECT_EQ(holders, 1) << unit;
  }
  TrainingShape uneven = shape;
  uneven.pipeline.blocks = {1, 4, 1, 2};
  EXPECT_EQ(shard_layout(uneven, 1).held(UnitRole::block), (std::vector<int>{2, 3, 4, 5}));
  TrainingShape ring = staged(2, 2, ScheduleKind::interleaved, 2);
  ring.pipeline.blocks = {1, 4, 1, 2};
  EXPECT_EQ(shard_layout(ring, 0).runs(), (std::vector<std::vector<int>>{{0, 1}, {6}}));
  EXPECT_EQ(shard_layout(ring, 1).runs(), (std::vector<std::vector<int>>{{2, 3, 4, 5}, {7, 8, 9}}));
  TrainingShape back = staged(2, 2, ScheduleKind::zero_bubble_v, 2);
  back.pipeline.blocks = {1, 4, 1, 2};
  EXPECT_EQ(shard_layout(back, 0).runs(), (std::vector<std::vector<int>>{{0, 1}, {7, 8, 9}}));
  EXPECT_EQ(shard_layout(back, 1).runs(), (std::vector<std::vector<int>>{{2, 3, 4, 5}, {6}}));
}

TEST(Pipeline, blocks_are_divided_so_that_stages_cost_the_same) {
  using Blocks = std::vector<std::int64_t>;
  const std::vector<int> four = {0, 1, 2, 3};
  EXPECT_EQ(divide_blocks(8, four, {.block = 1}), (Blocks{2, 2, 2, 2}));
  EXPECT_EQ(divide_blocks(9, four, {.block = 1}), (Blocks{2, 2, 2, 3}));
  EXPECT_EQ(divide_blocks(32, four, {.block = 1, .head = 2}), (Blocks{8, 8, 9, 7}));
  EXPECT_EQ(divide_blocks(8, {0, 1}, {.block = 1, .head = 100}), (Blocks{7, 1}));
  EXPECT_EQ(divide_blocks(4, four, {.block = 1, .head = 3}), (Blocks{1, 1, 1, 1}));
}

TEST(Pipeline, a_stage_with_the_head_has_fewer_blocks_in_all_of_its_parts) {
  using Blocks = std::vector<std::int64_t>;
  // To the last stage and back: the first one has the head.
  EXPECT_EQ(divide_blocks(8, {0, 1, 1, 0}, {.block = 1, .head = 3}), (Blocks{2, 2, 3, 1}));
  EXPECT_EQ(divide_blocks(8, {0, 1, 1, 0}, {.block = 1}), (Blocks{2, 2, 2, 2}));
  // In turn: the last one.
  EXPECT_EQ(divide_blocks(8, {0, 1, 0, 1}, {.block = 1, .head = 3}), (Blocks{2, 2, 3, 1}));
  EXPECT_EQ(stage_costs({2, 2, 3, 1}, {0, 1, 1, 0}, {.embedding = 0.5, .block = 1, .head = 3}),
            (std::vector<double>{6.5, 5}));
}

TEST(Pipeline, stages_send_a_residual_stream_a_micro_batch_each_way) {
  const TrainingShape shape = staged(3, 5);
  const std::int64_t one = shape.micro_batch.tokens() * shape.model.dim * 4;
  EXPECT_EQ(plan_traffic(shape, 0).pipeline_bytes, 5 * one);
  EXPECT_EQ(plan_traffic(shape, 1).pipeline_bytes, 2 * 5 * one);
  EXPECT_EQ(plan_traffic(shape, 2).pipeline_bytes, 5 * one);
  const TrainingShape ring = staged(3, 6, ScheduleKind::interleaved, 2);
  EXPECT_EQ(plan_traffic(ring, 0).pipeline_bytes, 3 * 6 * one);  // and round from the last one
  EXPECT_EQ(plan_traffic(ring, 1).pipeline_bytes, 4 * 6 * one);
  EXPECT_EQ(plan_traffic(ring, 2).pipeline_bytes, 3 * 6 * one);
  const TrainingShape back = staged(3, 5, ScheduleKind::zero_bubble_v, 2);
  EXPECT_EQ(plan_traffic(back, 0).pipeline_bytes, 2 * 5 * one);
  EXPECT_EQ(plan_traffic(back, 1).pipeline_bytes, 4 * 5 * one);
  EXPECT_EQ(plan_traffic(back, 2).pipeline_bytes, 2 * 5 * one);  // to itself it sends nothing
}

TEST(Pipeline, memory_of_a_stage_is_its_own) {
  const TrainingShape shape = staged(4, 8);
  std::int64_t masters = 0;
  for (int stage = 0; stage < 4; ++stage) {
    masters += shard_layout(shape, stage).shard_size();
    EXPECT_EQ(shape.stage(stage).slots(), 4 - stage);
  }
  TrainingShape whole = shape;
  whole.mesh.extent = {1, 1, 1, 1, 1};
  EXPECT_EQ(masters, shard_layout(whole, 0).shard_size());
  EXPECT_GT(plan_memory(shape, 0).total_bytes, plan_memory(shape, 2).total_bytes);
}

// The gradients that wait for backward_weight lie where activations were: of its own a micro-batch
// in flight has the gradient of what came in.
TEST(Pipeline, zero_bubble_takes_the_memory_of_1f1b_of_the_first_stage) {
  const TrainingShape turns = staged(4, 8);
  const TrainingShape split = staged(4, 8, ScheduleKind::zero_bubble);
  const std::int64_t stream = turns.micro_batch.tokens() * turns.model.dim * 4;
  EXPECT_EQ(plan_memory(split, 0).total_bytes, plan_memory(turns, 0).total_bytes + 4 * stream);
  for (int stage = 0; stage < 4; ++stage) EXPECT_EQ(split.stage(stage).slots(), 4);
}

}  // namespace
}  // namespace koios::testing
