// Memory, traffic and operation counts against figures worked out by hand or published.
#include <gtest/gtest.h>

#include <map>

#include "train/flops.hpp"
#include "train/plan_report.hpp"
#include "train/traffic_plan.hpp"
#include "train/training_memory.hpp"

namespace koios {
namespace {

TrainingShape shape_of(int dp, DType compute) {
  TrainingShape shape;
  shape.compute = compute;
  shape.model = {.dim = 256,
                 .n_layers = 8,
                 .n_heads = 16,
                 .n_kv_heads = 16,
                 .ffn_dim = 768,
                 .vocab_size = 32000};
  shape.micro_batch = {4, 128};
  shape.mesh.extent = {1, 1, dp, 1, 1};
  return shape;
}

std::map<std::string, std::int64_t> by_label(const MemoryPlan& plan) {
  std::map<std::string, std::int64_t> lines;
  for (const auto& line : plan.lines) lines[line.label] = line.bytes;
  return lines;
}

TEST(MemoryPlan, parameters_gradients_and_moments_fall_as_one_over_ranks) {
  const std::int64_t parameters = parameter_count(shape_of(1, DType::float32).model);
  for (const int dp : {1, 2, 4, 64}) {
    const auto lines = by_label(plan_memory(shape_of(dp, DType::float32)));
    for (const char* label :
         {"master parameters", "gradient shard", "optimizer exp_avg", "optimizer exp_avg_sq"}) {
      // Every dimension here divides by 64 or is 256: only alignment adds, under 512 bytes for
      // each of the 75 parameters.
      const std::int64_t share = parameters * 4 / dp;
      EXPECT_GE(lines.at(label), share) << label << " on " << dp;
      EXPECT_LE(lines.at(label), share + 75 * 512) << label << " on " << dp;
    }
  }
}

TEST(MemoryPlan, more_ranks_than_rows_hold_one_padded_row_each) {
  TrainingShape shape = shape_of(40000, DType::float32);
  const ShardLayout layout = shard_layout(shape, 39999);
  for (const UnitLayout& unit : layout.units()) {
    for (const ParameterLayout& p : unit.parameters) {
      EXPECT_EQ(p.part_rows, 1);
      EXPECT_EQ(p.rows_here, 0) << p.spec.name;
    }
  }
}

TEST(MemoryPlan, one_float32_rank_gathers_nothing) {
  EXPECT_FALSE(by_label(plan_memory(shape_of(1, DType::float32))).contains("gathered weights"));
  EXPECT_TRUE(by_label(plan_memory(shape_of(1, DType::bfloat16))).contains("gathered weights"));
}

TEST(TrafficPlan, resharding_gathers_all_but_the_last_blocks_twice) {
  TrainingShape shape = shape_of(4, DType::bfloat16);
  const LlamaShapes& m = shape.model;
  const std::int64_t table = m.vocab_size * m.dim;
  const std::int64_t block = 4 * m.dim * m.dim + 3 * m.dim * m.ffn_dim + 2 * m.dim;
  const std::int64_t everything = 2 * table + m.dim + m.n_layers * block;
  ASSERT_EQ(everything, parameter_count(m));

  TrafficPlan plan = plan_traffic(shape);
  // Two buffers (prefetch 1): the last two blocks are still there when the backward pass starts.
  EXPECT_EQ(plan.all_gather_bytes, (everything + (m.n_layers - 2) * block) * 2 * 3 / 4);
  EXPECT_EQ(plan.reduce_scatter_bytes, everything * 4 * 3 / 4);

  shape.gather.reshard_after_forward = false;
  shape.reduce.micro_batches = 3;
  plan = plan_traffic(shape);
  EXPECT_EQ(plan.all_gather_bytes, everything * 2 * 3 / 4);
  EXPECT_EQ(plan.reduce_scatter_bytes, 3 * everything * 4 * 3 / 4);

  shape.reduce.every_micro_batch = false;
  EXPECT_EQ(plan_traffic(shape).reduce_scatter_bytes, everything * 4 * 3 / 4);
  shape.reduce.dtype = DType::bfloat16;
  EXPECT_EQ(plan_traffic(shape).reduce_scatter_bytes, everything * 2 * 3 / 4);
}

TEST(TrafficPlan, one_rank_sends_nothing) {
  const TrafficPlan plan = plan_traffic(shape_of(1, DType::float32));
  EXPECT_EQ(plan.all_gather_bytes, 0);
  EXPECT_EQ(plan.reduce_scatter_bytes, 0);
}

TEST(Flops, llama2_7b_per_token) {
  // The peers' figure at 4096 tokens (design: 46.09 GFLOP, input embedding left out).
  const LlamaShapes m{.dim = 4096,
                      .n_layers = 32,
                      .n_heads = 32,
                      .n_kv_heads = 32,
                      .ffn_dim = 11008,
                      .vocab_size = 32000};
  EXPECT_NEAR(flops_per_token(m, 4096), 46.09e9, 0.005e9);
}

TEST(Flops, an_unknown_device_has_no_peak) {
  EXPECT_EQ(peak_flops("NVIDIA H200"), 989e12);
  EXPECT_EQ(peak_flops("NVIDIA H100 80GB HBM3"), 989e12);
  EXPECT_EQ(peak_flops("NVIDIA H100 PCIe"), 756e12);
  EXPECT_FALSE(peak_flops("Intel(R) Xeon(R)").has_value());
}

TEST(PlanReport, thousands_are_separated) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(6738415616), "6,738,415,616");
  EXPECT_EQ(with_commas(-123456), "-123,456");
}

}  // namespace
}  // namespace koios
