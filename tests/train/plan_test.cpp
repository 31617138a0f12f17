// Memory, traffic and operation counts against figures worked out by hand or published.
#include <gtest/gtest.h>

#include <map>

#include "core/readable.hpp"
#include "train/flops.hpp"
#include "train/host_memory.hpp"
#include "train/save_staging.hpp"
#include "train/start_report.hpp"
#include "train/step_actions.hpp"
#include "train/step_work.hpp"
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

/// Of an update, as predictions count it.
double update_bytes(const TrainingShape& shape) {
  Action update;
  update.kind = Action::Kind::update;
  return work_of(update, shape, shard_layout(shape, 0)).optimizer_bytes;
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
      EXPECT_EQ(p.here.rows.count, 0) << p.spec.name;
    }
  }
}

TEST(MemoryPlan, the_mask_of_documents_takes_eight_bytes_a_token) {
  TrainingShape shape = shape_of(1, DType::float32);
  const auto without = by_label(plan_memory(shape))["batch"];
  shape.micro_batch.document_mask = true;
  EXPECT_EQ(by_label(plan_memory(shape))["batch"],
            without + 8 * shape.micro_batch.tokens() + Arena::kAlignment);
}

TEST(MemoryPlan, one_rank_gathers_nothing_where_its_masters_or_casts_serve) {
  EXPECT_FALSE(by_label(plan_memory(shape_of(1, DType::float32))).contains("gathered weights"));
  // One rank's cast shard is what its blocks use; several gather from it.
  for (const int ranks : {1, 2}) {
    TrainingShape shape = shape_of(ranks, DType::bfloat16);
    for (const bool keep : {false, true}) {
      shape.gather.keep_cast = keep;
      const auto plan = by_label(plan_memory(shape));
      EXPECT_EQ(plan.contains("gathered weights"), ranks > 1 || !keep);
      EXPECT_EQ(plan.contains("cast parameters"), keep);
      if (keep) {
        EXPECT_EQ(plan.at("cast parameters"), plan.at("master parameters") / 2);
      }
    }
  }
}

TEST(MemoryPlan, moments_in_bfloat16_take_half) {
  for (const int dp : {1, 4}) {
    TrainingShape shape = shape_of(dp, DType::bfloat16);
    auto wide = by_label(plan_memory(shape));
    const std::int64_t parameters = wide.at("master parameters") / 4;
    const double wide_bytes = update_bytes(shape);
    const std::int64_t wide_copy = SaveStaging::bytes(shard_layout(shape, 0), shape.moments);
    shape.moments = DType::bfloat16;
    auto narrow = by_label(plan_memory(shape));
    for (const char* label : {"optimizer exp_avg", "optimizer exp_avg_sq"}) {
      EXPECT_EQ(2 * narrow.at(label), wide.at(label));
      wide[label] = narrow[label] = 0;
    }
    // 75 parameters, each with its place of 5 words.
    EXPECT_LE(narrow.at("optimizer scratch") - wide.at("optimizer scratch"), 75 * 40 + 256);
    wide["optimizer scratch"] = narrow["optimizer scratch"] = 0;
    EXPECT_EQ(narrow, wide);
    // The norm's 4, and masters, gradients and moments: 28, or 20.
    EXPECT_EQ(wide_bytes, 32.0 * static_cast<double>(parameters));
    EXPECT_EQ(update_bytes(shape), 24.0 * static_cast<double>(parameters));
    EXPECT_EQ(SaveStaging::bytes(shard_layout(shape, 0), shape.moments), wide_copy / 3 * 2);
  }
}

/// Bytes that one block keeps, by docs/recomputation.md: N tokens, c bytes an element.
std::int64_t kept_bytes(const TrainingShape& shape, Recompute level) {
  const ModelSpec& m = shape.model;
  const std::int64_t n = shape.micro_batch.tokens();
  const std::int64_t c = size_of(shape.compute);
  const std::int64_t statistics = has_mean(m.norm) ? 2 : 1;  // of a row, for each norm
  const std::int64_t q = m.dim, k = m.n_kv_heads * m.head_dim(), v = k;
  switch (level) {
    case Recompute::none:
      return n * (c * (5 * m.dim + q + k + v + 3 * m.ffn_dim) + 4 * (2 * statistics + m.n_heads));
    case Recompute::op:
      return n * (c * (3 * m.dim + q + k + v + 2 * m.ffn_dim) + 4 * m.n_heads);
    case Recompute::op_half:
      return n * (c * (2 * m.dim + q + v + m.ffn_dim) + 4 * m.n_heads);
    case Recompute::full:
      return n * c * m.dim;
  }
  return 0;
}

TEST(MemoryPlan, activations_are_what_the_formulas_say) {
  for (const auto& [compute, norm] : {std::pair(DType::float32, Norm::fused_rmsnorm),
                                      std::pair(DType::bfloat16, Norm::layernorm)}) {
    TrainingShape shape = shape_of(2, compute);
    shape.model.n_kv_heads = 4;
    shape.model.norm = norm;
    const std::int64_t n = shape.micro_batch.tokens();
    const std::int64_t head =
        n * (size_of(compute) * 2 * shape.model.dim + (has_mean(norm) ? 3 : 2) * 4);
    const std::int64_t none = kept_bytes(shape, Recompute::none);
    for (const RecomputePolicy policy :
         {RecomputePolicy{Recompute::none, 1}, RecomputePolicy{Recompute::op, 1},
          RecomputePolicy{Recompute::op_half, 1}, RecomputePolicy{Recompute::full, 3},
          RecomputePolicy{Recompute::full, 2}, RecomputePolicy{Recompute::full, 1}}) {
      SCOPED_TRACE(policy.describe());
      shape.recompute = policy;
      const MemoryPlan plan = plan_memory(shape);
      const std::int64_t again = shape.model.n_layers / policy.every;
      const std::int64_t kept = kept_bytes(shape, policy.level);
      EXPECT_EQ(by_label(plan)["activations"],
                head + again * kept + (shape.model.n_layers - again) * none);
      // Once for all blocks; op_half leaves the place of gate beside up to the gradients.
      const std::int64_t gate =
          policy.level == Recompute::op_half ? n * size_of(compute) * shape.model.ffn_dim : 0;
      EXPECT_EQ(by_label(plan)["recomputed activations"], none - kept + gate);
      EXPECT_EQ(activation_bytes(plan),
                by_label(plan)["activations"] + by_label(plan)["recomputed activations"]);
    }
  }
}

TEST(MemoryPlan, tensor_parallel_ranks_share_every_activation) {
  // Korthikanti et al. 2022, equation 4: with sequence parallelism all that a block keeps falls as
  // 1 / tp. Only the losses, one float a token, are on every rank.
  for (const Recompute level : {Recompute::none, Recompute::op, Recompute::full}) {
    for (const int tp : {2, 4}) {
      TrainingShape shape = shape_of(2, DType::bfloat16);
      const std::int64_t n = shape.micro_batch.tokens();
      const std::int64_t head = n * (2 * 2 * shape.model.dim + 4) / tp + 4 * n;
      const std::int64_t kept = kept_bytes(shape, level) / tp;
      shape.recompute.level = level;
      shape.tensor.ranks = shape.mesh.extent[static_cast<std::size_t>(Axis::tp)] = tp;
      auto lines = by_label(plan_memory(shape));
      EXPECT_EQ(lines["activations"], head + shape.model.n_layers * kept) << tp;
      EXPECT_EQ(lines["tensor-parallel buffers"], 2 * n * 2 * shape.model.dim);
    }
  }
}

TEST(MemoryPlan, np_layernorm_has_no_norm_parameters) {
  TrainingShape shape = shape_of(2, DType::float32);
  const std::int64_t with = parameter_count(shape.model);
  const auto before = by_label(plan_memory(shape));
  shape.model.norm = Norm::np_layernorm;
  const std::int64_t norms = 2 * shape.model.n_layers + 1;
  EXPECT_EQ(parameter_count(shape.model), with - norms * shape.model.dim);
  EXPECT_EQ(before.at("master parameters") - by_label(plan_memory(shape)).at("master parameters"),
            norms * shape.model.dim / 2 * 4);
  const ShardLayout layout = shard_layout(shape, 0);
  for (const UnitLayout& unit : layout.units()) {
    for (const ParameterLayout& p : unit.parameters) {
      EXPECT_EQ(p.spec.name.find("norm"), std::string::npos) << p.spec.name;
    }
  }
}

TEST(TrainingShape, a_vocabulary_that_does_not_divide_is_the_users_error) {
  RunConfig config;
  config.model.n_heads = config.model.n_kv_heads = 6;
  const MeshShape mesh{{1, 1, 1, 1, 3}};
  EXPECT_THROW(training_shape(config, mesh, Backend::host, 32000), UserError);
  EXPECT_EQ(training_shape(config, mesh, Backend::host, 32001).model.vocab_size, 32001);
}

TEST(RecomputePolicy, every_nth_block_counts_from_the_nth) {
  const RecomputePolicy third{Recompute::full, 3};
  std::string blocks;
  for (std::int64_t layer = 0; layer < 8; ++layer) {
    if (third.of_block(layer) == Recompute::full) blocks += cat(layer, " ");
  }
  EXPECT_EQ(blocks, "2 5 ");
}

TEST(PlanReport, recomputation_is_said_for_every_choice) {
  TrainingShape shape = shape_of(1, DType::float32);
  shape.recompute = {Recompute::full, 3};
  EXPECT_EQ(describe_recomputation(shape),
            "activations by [activation_checkpoint]: none 0.068 GiB, selective op 0.051 GiB, "
            "selective op_half 0.035 GiB, selective 2 0.044 GiB, selective 3 0.060 GiB, "
            "full 0.013 GiB; now: selective 3");
}

TEST(TrafficPlan, resharding_gathers_all_but_the_last_blocks_twice) {
  TrainingShape shape = shape_of(4, DType::bfloat16);
  const ModelSpec& m = shape.model;
  const std::int64_t table = m.vocab_size * m.dim;
  const std::int64_t block = 4 * m.dim * m.dim + 3 * m.dim * m.ffn_dim + 2 * m.dim;
  const std::int64_t everything = 2 * table + m.dim + m.n_layers * block;
  ASSERT_EQ(everything, parameter_count(m));

  SentBytes plan = plan_traffic(shape);
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

/// What is gathered of each block in a step, one digit of WeightValues after the other.
std::vector<std::string> gathered_values(const TrainingShape& shape) {
  const ShardLayout layout = shard_layout(shape, 0);
  std::vector<std::string> of_block(static_cast<std::size_t>(shape.model.n_layers));
  for (const Action& action : training_actions(shape, layout)) {
    if (action.kind != Action::Kind::gather) continue;
    const UnitLayout& unit = layout.unit(action.unit);
    if (unit.role != UnitRole::block) continue;
    of_block[static_cast<std::size_t>(unit.layer)] += std::to_string(action.values);
  }
  return of_block;
}

// With scales of rows the backward pass multiplies with other values than the forward pass. The
// last two blocks are there still when it begins, and lack only these.
TEST(TrafficPlan, rowwise_fp8_gathers_what_each_pass_multiplies_with) {
  TrainingShape shape = shape_of(4, DType::bfloat16);
  shape.model.n_layers = 4;
  shape.fp8 = {Fp8Recipe::rowwise, {1}};
  shape.gather.narrow = Fp8ScaleKind::row;
  using Values = std::vector<std::string>;
  EXPECT_EQ(gathered_values(shape), (Values{"12", "33", "12", "12"}));
  shape.recompute.level = Recompute::op;
  EXPECT_EQ(gathered_values(shape), (Values{"12", "33", "12", "12"}));
  shape.recompute.level = Recompute::full;  // which multiplies again
  EXPECT_EQ(gathered_values(shape), (Values{"13", "33", "12", "12"}));
  shape.gather.reshard_after_forward = false;
  EXPECT_EQ(gathered_values(shape), (Values{"12", "3", "12", "12"}));
}

TEST(TrafficPlan, tensor_parallel_ranks_move_activations) {
  TrainingShape shape = shape_of(2, DType::bfloat16);
  shape.tensor.ranks = shape.mesh.extent[static_cast<std::size_t>(Axis::tp)] = 4;
  shape.reduce.micro_batches = 3;
  const ModelSpec& m = shape.model;
  const std::int64_t n = shape.micro_batch.tokens();
  const std::int64_t sent = n * m.dim * 2 * 3 / 4;  // by a rank, of one activation in bf16

  SentBytes plan = plan_traffic(shape);
  EXPECT_EQ(plan.tensor_all_gather_bytes, 3 * (6 * m.n_layers + 2) * sent);
  EXPECT_EQ(plan.tensor_reduce_scatter_bytes, 3 * (4 * m.n_layers + 2) * sent);
  // Maximum, sum and target of each row; the norms' rows, shared by 2; the gradient norm over 8.
  const std::int64_t norms = (2 * m.n_layers + 1) * m.dim / 2;
  EXPECT_EQ(plan.all_reduce_bytes, (3 * 3 * n + norms) * 4 * 2 * 3 / 4 + 7);
  // Parameters: a quarter of the matrices, all of the norms.
  const std::int64_t matrices = parameter_count(m) - (2 * m.n_layers + 1) * m.dim;
  EXPECT_EQ(plan.reduce_scatter_bytes, 3 * (matrices / 4 + (2 * m.n_layers + 1) * m.dim) * 4 / 2);

  shape.tensor.loss_parallel = false;
  shape.recompute = {Recompute::full, 1};
  plan = plan_traffic(shape);
  const std::int64_t again = m.n_layers - 1;
  EXPECT_EQ(plan.tensor_all_gather_bytes,
            3 * ((6 * m.n_layers + 2 * again + 2) * sent + n * m.vocab_size * 2 * 3 / 4));
  EXPECT_EQ(plan.tensor_reduce_scatter_bytes, 3 * (4 * m.n_layers + again + 2) * sent);
}

TEST(TrafficPlan, replicas_add_up_their_shards_once_a_step) {
  TrainingShape shape = shape_of(4, DType::bfloat16);
  const SentBytes one = plan_traffic(shape);
  const auto memory = by_label(plan_memory(shape));
  EXPECT_EQ(one.replica_all_reduce_bytes, 0);
  shape.mesh.extent[static_cast<std::size_t>(Axis::dp_replicate)] = 4;
  shape.reduce.replicas = 4;
  // The shard: a quarter of the parameters, and what aligns the norms' 64 elements to 128.
  const std::int64_t shard = parameter_count(shape.model) / 4 + (2 * shape.model.n_layers + 1) * 64;
  ASSERT_EQ(shard_layout(shape, 0).shard_size(), shard);
  for (const int micro_batches : {1, 3}) {
    shape.reduce.micro_batches = micro_batches;
    EXPECT_EQ(plan_traffic(shape).replica_all_reduce_bytes, 2 * 3 * shard * 4 / 4);
  }
  shape.reduce.micro_batches = 1;
  EXPECT_EQ(plan_traffic(shape).all_gather_bytes, one.all_gather_bytes);
  EXPECT_EQ(plan_traffic(shape).reduce_scatter_bytes, one.reduce_scatter_bytes);
  EXPECT_EQ(by_label(plan_memory(shape)), memory);  // float32 is added up in place
  shape.reduce.dtype = DType::bfloat16;
  EXPECT_EQ(plan_traffic(shape).replica_all_reduce_bytes, 2 * 3 * shard * 2 / 4);
}

TEST(TrafficPlan, one_rank_sends_nothing) {
  const SentBytes plan = plan_traffic(shape_of(1, DType::float32));
  EXPECT_EQ(plan.all_gather_bytes, 0);
  EXPECT_EQ(plan.reduce_scatter_bytes, 0);
}

TEST(Flops, llama2_7b_per_token) {
  // The peers' figure at 4096 tokens (design: 46.09 GFLOP, input embedding left out).
  const ModelSpec m{.dim = 4096,
                    .n_layers = 32,
                    .n_heads = 32,
                    .n_kv_heads = 32,
                    .ffn_dim = 11008,
                    .vocab_size = 32000};
  EXPECT_NEAR(flops_per_token(m, 4096), 46.09e9, 0.005e9);
  EXPECT_DOUBLE_EQ(flops_per_token(m, 4096) - flops_per_token(m, 4096, AttentionCount::causal),
                   6.0 * 32 * 4096 * 4096);
  EXPECT_EQ(
      describe_flops(m, 4096, "NVIDIA H200"),
      "operations of a label token: 46.09 GFLOP with full attention (6 N + 12 layers dim "
      "seq_len, N without the input embedding: mfu), 42.87 with causal (6 layers dim seq_len: "
      "mfu_causal); mfu is of 989 TFLOP/s, the dense bf16 peak of NVIDIA H200");
  EXPECT_TRUE(describe_flops(m, 4096, "some CPU")
                  .ends_with("; mfu n/a: the bf16 peak of some CPU is not known"));
}

TEST(Flops, an_unknown_device_has_no_peak) {
  EXPECT_EQ(peak_flops("NVIDIA H200"), 989e12);
  EXPECT_EQ(peak_flops("NVIDIA H200 NVL"), 835e12);
  EXPECT_EQ(peak_flops("NVIDIA H100 80GB HBM3"), 989e12);
  EXPECT_EQ(peak_flops("NVIDIA H100 PCIe"), 756e12);
  EXPECT_FALSE(peak_flops("Intel(R) Xeon(R)").has_value());
}

TEST(HostMemory, is_for_all_ranks_of_a_node) {
  constexpr std::int64_t kGiB = std::int64_t{1} << 30;
  EXPECT_EQ(host_memory_problem({.plan = 12 * kGiB}, 1, {21 * kGiB, "host memory"}), "");
  EXPECT_EQ(host_memory_problem({}, 8, {}), "");
  EXPECT_EQ(host_memory_problem({.plan = 12 * kGiB}, 2, {21 * kGiB, "host memory"}),
            "2 ranks need the memory plan's 12.000 GiB each, and only 21.000 GiB of host memory "
            "are free: take more nodes, fewer sequences per rank (training/batch_size), a shorter "
            "training/seq_len, optimizer/state_dtype = bfloat16 or more recomputation (--dry-run "
            "prints the plan)");
  EXPECT_EQ(host_memory_problem({.staging = 3 * kGiB}, 1, {2 * kGiB, "what is allowed"}),
            "1 rank needs 3.000 GiB for [checkpoint] async = true, and only 2.000 GiB of what is "
            "allowed are free: take more nodes, set optimizer/state_dtype = bfloat16, or set async "
            "= false");
  const HostMemory narrow = {.plan = kGiB, .staging = kGiB, .moments = DType::bfloat16};
  EXPECT_EQ(host_memory_problem(narrow, 1, {}).find("state_dtype"), std::string::npos);
}

TEST(PlanReport, thousands_are_separated) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(6738415616), "6,738,415,616");
  EXPECT_EQ(duration(0.000576), "0.58 ms");
  EXPECT_EQ(duration(3.391), "3.39 s");
  EXPECT_EQ(duration(1200), "20.0 minutes");
  EXPECT_EQ(duration(86400), "24.0 hours");
  EXPECT_EQ(duration(49.4 * 86400), "49.4 days");
  EXPECT_EQ(with_commas(-123456), "-123,456");
}

}  // namespace
}  // namespace koios
