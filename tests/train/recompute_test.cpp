// Every choice of recomputation with every norm gives the bits of `none`: losses, gradient norms
// and parameters of three accumulated steps, with the ranks along dp and along tp. (op_half, whose
// products have other shapes than none's, gives them where the library sums alike; it is held to
// what the order of sums explains.) And the two meshes, which split the work in other ways, agree.
#include <gtest/gtest.h>

#include <cmath>

#include "environment.hpp"
#include "random_batch.hpp"
#include "train/step.hpp"
#include "train/traffic_plan.hpp"

namespace koios::testing {
namespace {

constexpr std::int64_t kVocab = 96, kSequences = 12, kSteps = 3;
constexpr int kMicroBatches = 2;

/// Sizes that 1, 2 and 3 ranks divide.
RunConfig tiny(Norm norm) {
  RunConfig c;
  c.job.deterministic = true;
  c.model.norm_type = norm;
  c.model.dim = 48;
  c.model.n_layers = 5;
  c.model.n_heads = 6;
  c.model.n_kv_heads = 6;
  c.model.ffn_dim = 72;
  c.training.seq_len = 9;
  c.training.gradient_accumulation_steps = kMicroBatches;
  c.training.steps = kSteps;
  c.training.warmup_steps = 1;
  return c;
}

struct Trained {
  std::vector<double> losses, norms;  // of each step
  std::vector<float> parameters;      // this rank's
  Fp8Counts fp8_counts;
};

template <class T>
Trained train(Backend backend, RunConfig run, int dp, int tp, bool with_labels = true,
              bool evaluates = false) {
  const MpiEnv& mpi = mpi_env();
  run.training.mixed_precision_param = dtype_of<T>;
  run.training.batch_size = kSequences / (dp * kMicroBatches);
  const MeshShape mesh_shape{{1, 1, dp, 1, tp}};
  run.parallel.tensor_parallel = tp;
  const Mesh mesh(mpi, mesh_shape, backend, {});
  const TrainingShape shape = training_shape(run, mesh_shape, backend, kVocab);
  TrainingParts<T> parts(shape, mpi.rank());
  Stream& stream = initialize(parts);
  TrainStep<T> step(run, shape, mesh, parts);

  const std::int64_t each = run.training.batch_size;
  const std::int64_t first = mesh_shape.dp_coordinate(mpi.rank()) * each * kMicroBatches;
  StepResults results(backend, 1, each * kMicroBatches * run.training.seq_len);
  Trained trained;
  const auto batch_of = [&](std::int64_t sample, std::int64_t count) {
    Batch batch = random_batch(sample, count, run.training.seq_len, kVocab);
    if (!with_labels) std::fill(batch.labels.begin(), batch.labels.end(), -1);
    return batch;
  };
  for (std::int64_t s = 0; s < kSteps; ++s) {
    step.run(s, batches_from(first + s * kSequences, each, batch_of), results);
    const StepResult result = results.read().at(0);
    // So many that they find larger magnitudes somewhere.
    for (std::int64_t i = 0; evaluates && i < 8; ++i)
      step.loss_sum(batch_of(1000 + i * each, each));
    trained.losses.push_back(result.loss);
    trained.norms.push_back(result.grad_norm);
  }
  trained.parameters = to_host(stream, parts.memory.parameters.master);
  trained.fp8_counts = results.fp8_counts();

  if (evaluates) return trained;  // which sends more
  const SentBytes plan = plan_traffic(shape);
  EXPECT_EQ(mesh.tp().traffic().all_gather_bytes, plan.tensor_all_gather_bytes * kSteps);
  EXPECT_EQ(mesh.tp().traffic().reduce_scatter_bytes, plan.tensor_reduce_scatter_bytes * kSteps);
  return trained;
}

template <class T>
void check_every_mode(Backend backend, Norm norm, double loss_bound,
                      Fp8Recipe fp8 = Fp8Recipe::none, std::vector<int> skip_blocks = {},
                      Fp8ScalesOf scales = Fp8ScalesOf::current) {
  if (backend == Backend::cuda &&
      (device_env().backend() != backend || count_gpus() < mpi_env().local_size())) {
    GTEST_SKIP() << "fewer GPUs than ranks";
  }
  device_env();
  using Kind = SelectiveOption::Kind;
  const std::vector<std::pair<const char*, ActivationCheckpointConfig>> modes = {
      {"op", {RecomputeMode::selective, {Kind::op, 1}}},
      {"op_half", {RecomputeMode::selective, {Kind::op_half, 1}}},
      {"selective 2", {RecomputeMode::selective, {Kind::blocks, 2}}},
      {"full", {RecomputeMode::full, {}}}};
  const int ranks = mpi_env().size();
  std::vector<std::vector<double>> losses;
  for (const auto& [dp, tp] : {std::pair(ranks, 1), std::pair(1, ranks)}) {
    RunConfig run = tiny(norm);
    run.training.fp8_linear = fp8;
    run.training.fp8_skip_blocks = skip_blocks;
    run.training.fp8_scales = scales;
    if (fp8 != Fp8Recipe::none) {  // sizes that GPUs multiply on up to 3 ranks
      run.model.dim = 96;
      run.model.ffn_dim = 96;
      run.training.seq_len = 16;
    }
    run.activation_checkpoint.mode = RecomputeMode::none;
    const Trained none = train<T>(backend, run, dp, tp);
    losses.push_back(none.losses);
    for (const auto& [name, mode] : modes) {
      SCOPED_TRACE(cat(name, ", dp ", dp, " x tp ", tp));
      run.activation_checkpoint = mode;
      const Trained again = train<T>(backend, run, dp, tp);
      if (std::string(name) == "op_half") {  // wk and w3 are GEMMs of their own: other shapes
        for (std::size_t s = 0; s < none.losses.size(); ++s) {
          EXPECT_NEAR(again.losses[s], none.losses[s], loss_bound) << "step " << s;
          EXPECT_NEAR(again.norms[s], none.norms[s], loss_bound * none.norms[s]) << "step " << s;
        }
        continue;
      }
      EXPECT_EQ(again.losses, none.losses);
      EXPECT_EQ(again.norms, none.norms);
      EXPECT_EQ(again.parameters, none.parameters);
    }
  }
  for (std::size_t s = 0; s < losses[0].size(); ++s) {
    EXPECT_NEAR(sum_over_ranks(losses[0][s]) / ranks, sum_over_ranks(losses[1][s]) / ranks,
                loss_bound)
        << "step " << s << ": dp against tp";
  }
}

struct Case {
  Backend backend;
  Norm norm;
};

class RecomputeModes : public ::testing::TestWithParam<Case> {};

// The bounds of dp against tp: in float32 the sums' order alone, in bf16 also the rounding of the
// partial sums that tensor-parallel ranks exchange (2^-8 each).
TEST_P(RecomputeModes, are_bit_equal_to_none) {
  check_every_mode<float>(GetParam().backend, GetParam().norm, 1e-5);
}
TEST_P(RecomputeModes, are_bit_equal_to_none_in_bfloat16) {
  check_every_mode<bf16>(GetParam().backend, GetParam().norm, 1e-2);
}

// In FP8 a rank's scales are those of what it holds, so meshes differ as by FP8's roundings (6%).
TEST_P(RecomputeModes, are_bit_equal_to_none_in_fp8) {
  const auto& [backend, norm] = GetParam();
  check_every_mode<bf16>(backend, norm, 2e-2, Fp8Recipe::tensorwise);
  check_every_mode<bf16>(backend, norm, 2e-2, Fp8Recipe::tensorwise, {}, Fp8ScalesOf::previous);
  if (norm != Norm::rmsnorm) return;
  check_every_mode<bf16>(backend, norm, 2e-2, Fp8Recipe::tensorwise, {1});
  check_every_mode<bf16>(backend, norm, 2e-2, Fp8Recipe::rowwise);
  check_every_mode<bf16>(backend, norm, 2e-2, Fp8Recipe::block, {0});
}

// Without a label all gradients are zeros: those of four products in each block.
TEST_P(RecomputeModes, fp8_counts_scales_of_zeros) {
  const auto& [backend, norm] = GetParam();
  const int ranks = mpi_env().size();
  if (backend == Backend::cuda &&
      (device_env().backend() != backend || count_gpus() < mpi_env().local_size())) {
    GTEST_SKIP() << "fewer GPUs than ranks";
  }
  device_env();
  RunConfig run = tiny(norm);
  run.model.dim = run.model.ffn_dim = 96;
  run.training.seq_len = 16;
  run.training.fp8_linear = Fp8Recipe::tensorwise;
  run.training.fp8_skip_blocks = {1};
  EXPECT_EQ(train<float>(backend, run, ranks, 1).fp8_counts, (Fp8Counts{0, 0}));
  const std::int64_t zeros = kSteps * kMicroBatches * (run.model.n_layers - 1) * 4;
  EXPECT_EQ(train<float>(backend, run, ranks, 1, false).fp8_counts, (Fp8Counts{0, zeros}));
  run.training.fp8_linear = Fp8Recipe::rowwise;  // a scale for each token and for each column
  EXPECT_GT(train<float>(backend, run, ranks, 1, false).fp8_counts[1], 100 * zeros);
}

/// Sizes that GPUs multiply in 8 bits.
RunConfig tiny_in_fp8(Fp8ScalesOf scales) {
  RunConfig run = tiny(Norm::rmsnorm);
  run.model.dim = run.model.ffn_dim = 96;
  run.training.seq_len = 16;
  run.training.fp8_linear = Fp8Recipe::tensorwise;
  run.training.fp8_scales = scales;
  return run;
}

bool has_gpus(Backend backend) {
  return backend == Backend::host ||
         (device_env().backend() == backend && count_gpus() >= mpi_env().local_size());
}

// The first step knows no older scales, and so has the bits of `current`; the next ones differ by
// FP8's roundings.
TEST_P(RecomputeModes, scales_of_the_step_before_begin_with_its_second) {
  const auto& [backend, norm] = GetParam();
  if (norm != Norm::rmsnorm) return;
  if (!has_gpus(backend)) GTEST_SKIP() << "fewer GPUs than ranks";
  device_env();
  const int ranks = mpi_env().size();
  for (const auto& [dp, tp] : {std::pair(ranks, 1), std::pair(1, ranks)}) {
    const Trained current = train<bf16>(backend, tiny_in_fp8(Fp8ScalesOf::current), dp, tp);
    const Trained previous = train<bf16>(backend, tiny_in_fp8(Fp8ScalesOf::previous), dp, tp);
    EXPECT_EQ(previous.losses[0], current.losses[0]);
    EXPECT_EQ(previous.norms[0], current.norms[0]);
    EXPECT_NE(previous.parameters, current.parameters);
    for (std::size_t s = 1; s < current.losses.size(); ++s) {
      EXPECT_NEAR(previous.losses[s], current.losses[s], 2e-3) << "step " << s;
      EXPECT_NEAR(previous.norms[s], current.norms[s], 2e-2 * current.norms[s]) << "step " << s;
    }
    EXPECT_EQ(previous.fp8_counts, (Fp8Counts{0, 0}));
    const Trained again = train<bf16>(backend, tiny_in_fp8(Fp8ScalesOf::previous), dp, tp);
    EXPECT_EQ(again.losses, previous.losses);
    EXPECT_EQ(again.parameters, previous.parameters);
    const Trained evaluated =
        train<bf16>(backend, tiny_in_fp8(Fp8ScalesOf::previous), dp, tp, true, true);
    EXPECT_EQ(evaluated.losses, previous.losses) << "what an evaluation finds does not count";
    EXPECT_EQ(evaluated.parameters, previous.parameters);
  }
}

// Weights that grow tenfold in a step bring tensors that are more than twice as large.
TEST_P(RecomputeModes, tensors_that_outgrow_the_step_before_saturate) {
  const auto& [backend, norm] = GetParam();
  if (norm != Norm::rmsnorm) return;
  if (!has_gpus(backend)) GTEST_SKIP() << "fewer GPUs than ranks";
  device_env();
  for (const Fp8ScalesOf scales : {Fp8ScalesOf::current, Fp8ScalesOf::previous}) {
    RunConfig run = tiny_in_fp8(scales);
    run.optimizer.lr = 0.3;
    const Trained trained = train<bf16>(backend, run, mpi_env().size(), 1);
    const std::int64_t saturated = trained.fp8_counts[static_cast<int>(Fp8Count::saturated)];
    if (scales == Fp8ScalesOf::current) {
      EXPECT_EQ(saturated, 0);
    } else {
      EXPECT_GT(saturated, 0);
    }
  }
}

// Blocks that are left out of FP8 have the bits that they had without it.
TEST_P(RecomputeModes, fp8_leaves_blocks_out) {
  const auto& [backend, norm] = GetParam();
  if (norm != Norm::rmsnorm) return;
  if (backend == Backend::cuda && device_env().backend() != backend) GTEST_SKIP() << "no GPU";
  const int ranks = mpi_env().size();
  if (backend == Backend::cuda && count_gpus() < ranks) GTEST_SKIP() << "fewer GPUs than ranks";
  RunConfig run = tiny(norm);
  run.model.dim = 96;
  run.model.ffn_dim = 96;
  run.training.seq_len = 16;
  const Trained without = train<bf16>(backend, run, ranks, 1);
  for (const Fp8Recipe recipe : {Fp8Recipe::tensorwise, Fp8Recipe::rowwise, Fp8Recipe::block}) {
    SCOPED_TRACE(to_string(recipe));
    run.training.fp8_linear = recipe;
    run.training.fp8_skip_blocks.clear();
    for (int block = 0; block < run.model.n_layers; ++block) {
      EXPECT_NE(train<bf16>(backend, run, ranks, 1).parameters, without.parameters) << block;
      run.training.fp8_skip_blocks.push_back(block);
    }
    EXPECT_EQ(train<bf16>(backend, run, ranks, 1).parameters, without.parameters);
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Backend backend : {Backend::host, Backend::cuda}) {
    if (!is_built_in(backend)) continue;
    for (const auto& [norm, name] : names_of(Norm{})) all.push_back({backend, norm});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Norms, RecomputeModes, ::testing::ValuesIn(cases()), [](const auto& info) {
  return cat(to_string(info.param.backend), "_", to_string(info.param.norm));
});

}  // namespace
}  // namespace koios::testing
