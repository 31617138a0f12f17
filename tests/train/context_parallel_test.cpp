// Training on sequences that ranks share, on the meshes that this number of ranks makes, against
// data-parallel ranks with whole sequences: losses, norms, the first step's gradients, parameters
// and the validation's loss; what is sent and what memory is taken against the plan. (That one rank
// alone gives the same is tests/equivalence/context_parallel_test.py.)
#include <gtest/gtest.h>

#include <cmath>

#include "environment.hpp"
#include "random_batch.hpp"
#include "sequence_parts.hpp"
#include "train/step.hpp"

namespace koios::testing {
namespace {

constexpr std::int64_t kVocab = 96, kSequences = 12, kSteps = 20, kSeqLen = 48;
constexpr std::int64_t kUnseen = 1000;  // samples that no step takes

RunConfig tiny() {
  RunConfig c;
  c.job.deterministic = true;
  c.model.dim = 96;
  c.model.n_layers = 2;
  c.model.n_heads = 6;
  c.model.n_kv_heads = 6;
  c.model.ffn_dim = 72;
  c.training.seq_len = kSeqLen;
  c.training.steps = kSteps;
  c.training.warmup_steps = 2;
  c.training.mixed_precision_param = DType::float32;
  c.activation_checkpoint.mode = RecomputeMode::none;
  return c;
}

/// Of documents of which some are longer than a rank's chunk.
Batch batch(std::int64_t first, std::int64_t count) {
  return random_batch(first, count, kSeqLen, kVocab, 16);
}

struct Trained {
  std::vector<double> losses;     // of each step, over all ranks
  std::vector<double> norms;      // of each step
  std::vector<float> gradients;   // of the first step, this rank's
  std::vector<float> start, end;  // this rank's parameters
  double validation = 0;          // loss after the last step
};

template <class T>
Trained train(Backend backend, RunConfig run, const MeshShape& mesh_shape, int micro_batches) {
  const MpiEnv& mpi = mpi_env();
  run.training.gradient_accumulation_steps = micro_batches;
  run.training.batch_size = kSequences / (mesh_shape.dp() * micro_batches);
  const Mesh mesh(mpi, mesh_shape, backend, {.shard_transport = run.comm.shard_transport});
  const TrainingShape shape = training_shape(run, mesh_shape, backend, kVocab);
  TrainingParts<T> parts(shape, mpi.rank());
  mesh.share_memory(parts.arena.memory());
  Stream& stream = initialize(parts);
  TrainStep<T> step(run, shape, mesh, parts);

  const SequencePart part = shape.sequence_part(mpi.rank());
  const std::int64_t each = run.training.batch_size;
  const double ranks_with_loss = mpi.size() / mesh_shape.size(Axis::pp);
  const std::int64_t first = mesh_shape.dp_coordinate(mpi.rank()) * each * micro_batches;
  StepResults results(backend, 1, shape.micro_batch.tokens() * micro_batches);
  Trained trained;
  trained.start = to_host(stream, parts.memory.parameters.master);
  for (std::int64_t s = 0; s < kSteps; ++s) {
    const auto mine = [&](auto... samples) { return part_of(batch(samples...), part); };
    step.run(s, batches_from(first + s * kSequences, each, mine), results);
    const StepResult result = results.read().at(0);
    trained.losses.push_back(sum_over_ranks(result.loss) / ranks_with_loss);
    trained.norms.push_back(result.grad_norm);
    if (s == 0) trained.gradients = to_host(stream, parts.memory.gradients.shard);
  }
  expect_traffic_as_planned(mesh, shape, parts.layout.stage(), kSteps);
  const Batch unseen = batch(kUnseen + first, each);
  const auto sum = to_host(stream, step.loss_sum(part_of(unseen, part)));
  trained.validation = sum_over_ranks(static_cast<double>(sum[0])) * micro_batches;
  trained.end = to_host(stream, parts.memory.parameters.master);
  mesh.share_memory({});
  return trained;
}

/// |a - b| / |c - d| over all ranks.
double relative_distance(const std::vector<float>& a, const std::vector<float>& b,
                         const std::vector<float>& c, const std::vector<float>& d = {}) {
  EXPECT_EQ(a.size(), b.size());
  double distance = 0;
  double size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    distance += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    size += std::pow(static_cast<double>(c[i]) - (d.empty() ? 0 : static_cast<double>(d[i])), 2);
  }
  return std::sqrt(sum_over_ranks(distance) / sum_over_ranks(size));
}

/// The bounds of float32, whose sums come in another order.
void expect_close(const Trained& a, const Trained& b) {
  for (std::size_t s = 0; s < a.losses.size(); ++s) {
    EXPECT_NEAR(a.losses[s], b.losses[s], 2e-5) << "step " << s;
    EXPECT_NEAR(a.norms[s], b.norms[s], 1e-4 * b.norms[s]) << "step " << s;
  }
  EXPECT_LT(b.losses.back(), b.losses.front());
}

/// Of meshes whose ranks hold the same parameters.
void expect_close_everywhere(const Trained& a, const Trained& b) {
  expect_close(a, b);
  EXPECT_EQ(a.start, b.start);
  EXPECT_LE(relative_distance(a.gradients, b.gradients, b.gradients), 1e-5);
  EXPECT_LE(relative_distance(a.end, b.end, b.end, b.start), 1e-3);
}

struct Case {
  Backend backend;
  ShardTransport transport;
};

class ContextParallel : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    device_env();
    const bool is_cuda = GetParam().backend == Backend::cuda;
    if (is_cuda &&
        (device_env().backend() != Backend::cuda || count_gpus() < mpi_env().local_size())) {
      GTEST_SKIP() << "fewer GPUs than ranks";
    }
  }
  template <class T = float>
  Trained train_on(RunConfig run, const MeshShape& mesh, int micro_batches = 1) {
    run.comm.shard_transport = GetParam().transport;
    return train<T>(GetParam().backend, run, mesh, micro_batches);
  }
  int ranks() const { return mpi_env().size(); }
  MeshShape shared() const { return {{1, 1, 1, ranks(), 1}}; }
  MeshShape apart() const { return {{1, 1, ranks(), 1, 1}}; }
};

TEST_P(ContextParallel, agrees_with_whole_sequences) {
  for (const int kv_heads : {6, 2, 1}) {
    SCOPED_TRACE(kv_heads);
    RunConfig run = tiny();
    run.model.n_kv_heads = kv_heads;
    const Trained whole = train_on(run, apart());
    const Trained parts = train_on(run, shared());
    expect_close_everywhere(parts, whole);
    EXPECT_NEAR(parts.validation, whole.validation, 1e-4 * whole.validation);
    if (ranks() == 4) expect_close_everywhere(train_on(run, {{1, 1, 2, 2, 1}}), whole);
  }
}

TEST_P(ContextParallel, documents_stay_apart) {
  RunConfig run = tiny();
  run.data.document_mask = true;
  const Trained whole = train_on(run, apart());
  expect_close_everywhere(train_on(run, shared()), whole);
  run.data.document_mask = false;
  const Trained unmasked = train_on(run, shared());
  EXPECT_GT(relative_distance(unmasked.gradients, whole.gradients, whole.gradients), 1e-2);
}

TEST_P(ContextParallel, accumulates_and_recomputes) {
  RunConfig run = tiny();
  run.model.n_kv_heads = 2;
  const Trained whole = train_on(run, apart());
  for (const int micro_batches : {3, 12}) {
    SCOPED_TRACE(micro_batches);
    expect_close_everywhere(train_on(run, shared(), micro_batches), whole);
  }
  const Trained kept = train_on(run, shared());
  for (const auto& [mode, option] : {std::pair(RecomputeMode::full, SelectiveOption::Kind::op),
                                     {RecomputeMode::selective, SelectiveOption::Kind::op},
                                     {RecomputeMode::selective, SelectiveOption::Kind::op_half}}) {
    run.activation_checkpoint.mode = mode;
    run.activation_checkpoint.selective_ac_option.kind = option;
    const Trained again = train_on(run, shared());
    EXPECT_EQ(again.losses, kept.losses);
    EXPECT_EQ(again.end, kept.end);
  }
}

TEST_P(ContextParallel, goes_with_the_other_axes) {
  if (ranks() != 4) GTEST_SKIP() << "for 4 ranks";
  RunConfig run = tiny();
  const Trained whole = train_on(run, apart());
  run.parallel.tensor_parallel = 2;
  expect_close(train_on(run, {{1, 1, 1, 2, 2}}), whole);
  run.parallel.async_tp = true;
  expect_close(train_on(run, {{1, 1, 1, 2, 2}}), whole);
  run = tiny();
  run.parallel.pipeline_parallel = 2;
  expect_close(train_on(run, {{2, 1, 1, 2, 1}}, 4), whole);
  run = tiny();
  expect_close(train_on(run, {{1, 2, 1, 2, 1}}), whole);
}

// The roundings of bfloat16 differ where sums do.
TEST_P(ContextParallel, in_bfloat16) {
  RunConfig run = tiny();
  run.model.n_kv_heads = 2;
  run.training.mixed_precision_param = DType::bfloat16;
  const Trained whole = train_on<bf16>(run, apart());
  const Trained parts = train_on<bf16>(run, shared());
  for (std::size_t s = 0; s < whole.losses.size(); ++s) {
    EXPECT_NEAR(parts.losses[s], whole.losses[s], 0.01) << "step " << s;
  }
  EXPECT_LE(relative_distance(parts.gradients, whole.gradients, whole.gradients), 0.02);
}

std::vector<Case> cases() {
  std::vector<Case> all = {{Backend::host, ShardTransport::automatic}};
  if (is_built_in(Backend::cuda)) {
    all.push_back({Backend::cuda, ShardTransport::copy_engine});
    all.push_back({Backend::cuda, ShardTransport::nccl});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Backends, ContextParallel, ::testing::ValuesIn(cases()),
                         [](const auto& info) {
                           const bool by_engines =
                               info.param.transport == ShardTransport::copy_engine;
                           return cat(to_string(info.param.backend),
                                      by_engines ? "_copy_engine" : "");
                         });

}  // namespace
}  // namespace koios::testing
