// Training through stages and on copies of the model, on the meshes that this number of ranks
// makes: losses, gradient norms and parameters of several steps, and on every rank what is sent and
// what memory is taken against the plan. (That one rank gives the same is
// tests/equivalence/{pipeline,replicas}_test.py.)
#include <gtest/gtest.h>
#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "environment.hpp"
#include "random_batch.hpp"
#include "train/step.hpp"

namespace koios::testing {
namespace {

constexpr std::int64_t kVocab = 96, kSequences = 8, kSteps = 4, kSeqLen = 12;
constexpr std::int64_t kUnseen = 1000;  // samples that no step takes

RunConfig tiny() {
  RunConfig c;
  c.job.deterministic = true;
  c.model.dim = 48;
  c.model.n_layers = 6;
  c.model.n_heads = 4;
  c.model.n_kv_heads = 4;
  c.model.ffn_dim = 72;
  c.training.seq_len = kSeqLen;
  c.training.steps = kSteps;
  c.training.warmup_steps = 1;
  c.activation_checkpoint.mode = RecomputeMode::none;
  return c;
}

Batch batch(std::int64_t first, std::int64_t count) {
  return random_batch(first, count, kSeqLen, kVocab);
}

struct Trained {
  std::vector<double> losses;     // of each step, over all ranks
  std::vector<double> norms;      // of each step
  double validation = 0;          // loss after the last one
  std::vector<float> parameters;  // this rank's
};

void expect_replicas_hold_the_same_bits(const MeshShape& mesh, std::span<const float> mine) {
  const int group = mesh.group_of(mpi_env().rank(), {Axis::dp_replicate});
  MPI_Comm replicas = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, group, mpi_env().rank(), &replicas);
  std::vector<float> first(mine.begin(), mine.end());
  MPI_Bcast(first.data(), static_cast<int>(first.size()), MPI_FLOAT, 0, replicas);
  MPI_Comm_free(&replicas);
  EXPECT_TRUE(std::ranges::equal(first, mine));
}

template <class T>
Trained train(Backend backend, RunConfig run, const MeshShape& mesh_shape, int micro_batches) {
  const MpiEnv& mpi = mpi_env();
  run.training.mixed_precision_param = dtype_of<T>;
  run.training.gradient_accumulation_steps = micro_batches;
  run.training.batch_size = kSequences / (mesh_shape.dp() * micro_batches);
  const TrainingShape shape = training_shape(run, mesh_shape, backend, kVocab);
  const Mesh mesh(mpi, mesh_shape, backend, {.stage_path = shape.path()});
  TrainingParts<T> parts(shape, mpi.rank());
  Stream& stream = initialize(parts);
  TrainStep<T> step(run, shape, mesh, parts);

  // As the program does: what a GPU's first step loads and chooses waits for the device, and so for
  // a receive, whose stage may wait for this one.
  step.rehearse();
  stream.synchronize();
  const SentBytes rehearsal = measured_bytes(mesh);

  const std::int64_t each = run.training.batch_size;
  const double last_stage_ranks = mpi.size() / mesh_shape.size(Axis::pp);
  const std::int64_t first = mesh_shape.dp_coordinate(mpi.rank()) * each * micro_batches;
  StepResults results(backend, 1, each * micro_batches * kSeqLen);
  Trained trained;
  for (std::int64_t s = 0; s < kSteps; ++s) {
    step.run(s, batches_from(first + s * kSequences, each, batch), results);
    const StepResult result = results.read().at(0);
    trained.losses.push_back(sum_over_ranks(result.loss) / last_stage_ranks);
    trained.norms.push_back(result.grad_norm);
  }
  expect_traffic_as_planned(mesh, shape, parts.layout.stage(), kSteps, rehearsal);

  for (const std::int64_t sample : {kUnseen, kUnseen + kSequences, kUnseen}) {
    trained.validation +=
        static_cast<double>(to_host(stream, step.loss_sum(batch(sample, each))).at(0));
  }
  trained.validation = sum_over_ranks(trained.validation) / last_stage_ranks;
  trained.parameters = to_host(stream, parts.memory.parameters.master);
  expect_replicas_hold_the_same_bits(mesh_shape, trained.parameters);
  return trained;
}

void expect_same_bits(const Trained& a, const Trained& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
  EXPECT_EQ(a.parameters, b.parameters);
  EXPECT_EQ(a.validation, b.validation);
}

constexpr double kOtherOrder = 2e-5;  // of sums in float32

void expect_close(const Trained& a, const Trained& b, double bound = kOtherOrder) {
  for (std::size_t s = 0; s < a.losses.size(); ++s) {
    EXPECT_NEAR(a.losses[s], b.losses[s], bound) << "step " << s;
    EXPECT_NEAR(a.norms[s], b.norms[s], 5 * bound * b.norms[s]) << "step " << s;
  }
}

class Meshes : public ::testing::TestWithParam<Backend> {
 protected:
  static void SetUpTestSuite() { load_kernels_at_start(); }
  void SetUp() override {
    device_env();
    const bool is_cuda = GetParam() == Backend::cuda;
    if (is_cuda &&
        (device_env().backend() != Backend::cuda || count_gpus() < mpi_env().local_size())) {
      GTEST_SKIP() << "fewer GPUs than ranks";
    }
  }
  template <class T = float>
  Trained train_on(const RunConfig& run, const MeshShape& mesh, int micro_batches) {
    return train<T>(GetParam(), run, mesh, micro_batches);
  }
  /// Every order of passes gives the bits of 1F1B's.
  template <class T = float>
  Trained train_in_all_orders(RunConfig run, const MeshShape& mesh, int micro_batches) {
    const Trained turns = train_on<T>(run, mesh, micro_batches);
    for (const ScheduleKind schedule : {ScheduleKind::zero_bubble, ScheduleKind::gpipe}) {
      SCOPED_TRACE(to_string(schedule));
      run.parallel.pipeline_schedule = schedule;
      expect_same_bits(turns, train_on<T>(run, mesh, micro_batches));
    }
    return turns;
  }
  int ranks() const { return mpi_env().size(); }
  MeshShape only_stages() const { return {{ranks(), 1, 1, 1, 1}}; }
  MeshShape no_stages() const { return {{1, 1, ranks(), 1, 1}}; }
};

class Stages : public Meshes {};

TEST_P(Stages, the_order_of_passes_changes_no_bit) {
  if (ranks() == 8) GTEST_SKIP() << "more ranks than blocks";
  for (const int micro_batches : {1, 2, 4, 8}) {
    SCOPED_TRACE(micro_batches);
    const Trained turns = train_in_all_orders(tiny(), only_stages(), micro_batches);
    EXPECT_LT(turns.losses.back(), turns.losses.front());
  }
}

TEST_P(Stages, the_order_of_passes_changes_no_bit_in_bfloat16) {
  if (ranks() == 8) GTEST_SKIP() << "more ranks than blocks";
  const Trained narrow = train_in_all_orders<bf16>(tiny(), only_stages(), 4);
  expect_close(narrow, train_on(tiny(), only_stages(), 4), 2e-2);
}

// Scales are those of one micro-batch's tensors, so stages and their order change none.
TEST_P(Stages, the_order_of_passes_changes_no_bit_in_fp8) {
  if (ranks() == 8) GTEST_SKIP() << "more ranks than blocks";
  const int micro_batches = GetParam() == Backend::cuda ? 2 : 4;  // whose tokens 16 divides
  RunConfig run = tiny();
  run.model.ffn_dim = 96;
  const RunConfig bf16_run = run;
  for (const Fp8Recipe recipe : {Fp8Recipe::tensorwise, Fp8Recipe::rowwise, Fp8Recipe::block}) {
    SCOPED_TRACE(to_string(recipe));
    run.training.fp8_linear = recipe;
    run.parallel.pipeline_schedule = ScheduleKind::one_f_one_b;
    const Trained turns = train_in_all_orders<bf16>(run, only_stages(), micro_batches);
    EXPECT_NE(turns.losses, train_on<bf16>(bf16_run, only_stages(), micro_batches).losses);
    if (ranks() > 2) continue;
    for (const ScheduleKind schedule : {ScheduleKind::interleaved, ScheduleKind::zero_bubble_v}) {
      SCOPED_TRACE(to_string(schedule));
      run.parallel.pipeline_schedule = schedule;
      EXPECT_EQ(train_on<bf16>(run, only_stages(), micro_batches).losses, turns.losses);
    }
  }
  // Nor are those of the step before, but where gradients are cast twice.
  run.training.fp8_linear = Fp8Recipe::tensorwise;
  run.training.fp8_scales = Fp8ScalesOf::previous;
  run.parallel.pipeline_schedule = ScheduleKind::one_f_one_b;
  const Trained turns = train_on<bf16>(run, only_stages(), micro_batches);
  for (const ScheduleKind schedule :
       {ScheduleKind::gpipe, ScheduleKind::interleaved, ScheduleKind::zero_bubble}) {
    SCOPED_TRACE(to_string(schedule));
    if (schedule == ScheduleKind::interleaved && ranks() > 2) continue;
    run.parallel.pipeline_schedule = schedule;
    const Trained other = train_on<bf16>(run, only_stages(), micro_batches);
    if (splits_backward(schedule)) {
      expect_close(other, turns, 2e-2);
    } else {
      EXPECT_EQ(other.losses, turns.losses);
    }
  }
}

// Which ranks hold which blocks enters no sum but the norm's, which clips nothing here.
TEST_P(Stages, runs_of_units_change_no_loss) {
  if (ranks() > 2) GTEST_SKIP() << "too few blocks";
  RunConfig run = tiny();
  run.training.max_norm = 1e6;
  for (const int micro_batches : {2, 4, 8}) {
    SCOPED_TRACE(micro_batches);
    run.parallel.pipeline_schedule = ScheduleKind::one_f_one_b;
    const Trained whole = train_on(run, only_stages(), micro_batches);
    run.parallel.pipeline_schedule = ScheduleKind::interleaved;
    for (const int runs : {2, 3}) {
      SCOPED_TRACE(runs);
      run.parallel.pipeline_chunks = runs;
      const Trained divided = train_on(run, only_stages(), micro_batches);
      EXPECT_EQ(divided.losses, whole.losses);
      EXPECT_EQ(divided.validation, whole.validation);
      expect_close(divided, whole);
    }
  }
  run.parallel.pipeline_chunks = 2;
  run.parallel.pipeline_layers = {1, 3, 1, 1};
  const Trained uneven = train_on(run, only_stages(), 4);
  run.activation_checkpoint.mode = RecomputeMode::full;
  expect_same_bits(uneven, train_on(run, only_stages(), 4));
}

TEST_P(Stages, the_way_back_changes_no_loss) {
  if (ranks() == 8) GTEST_SKIP() << "more runs than blocks";
  RunConfig run = tiny();
  run.model.n_layers = 8;
  run.training.max_norm = 1e6;
  const auto check = [&]<class T>(T /*type*/, int micro_batches) {
    SCOPED_TRACE(micro_batches);
    run.parallel.pipeline_schedule = ScheduleKind::one_f_one_b;
    const Trained whole = train_on<T>(run, only_stages(), micro_batches);
    run.parallel.pipeline_schedule = ScheduleKind::zero_bubble_v;
    const Trained divided = train_on<T>(run, only_stages(), micro_batches);
    EXPECT_EQ(divided.losses, whole.losses);
    EXPECT_EQ(divided.validation, whole.validation);
    expect_close(divided, whole);
  };
  for (const int micro_batches : {1, 2, 4, 8}) check(float{}, micro_batches);
  check(bf16{}, 8);
}

TEST_P(Stages, data_and_tensor_parallel_ranks_within) {
  if (ranks() < 4) GTEST_SKIP() << "too few ranks";
  const Trained data = train_on(tiny(), no_stages(), 1);
  const MeshShape with_data{{2, 1, ranks() == 8 ? 2 : 1, 1, 2}};
  expect_close(train_in_all_orders(tiny(), with_data, 2), data);
  RunConfig run = tiny();
  run.parallel.async_tp = true;
  run.training.reshard_after_forward = true;
  expect_close(train_in_all_orders(run, with_data, 4), data);
  expect_close(train_in_all_orders<bf16>(tiny(), with_data, 4), data, 2e-2);
  run.parallel.pipeline_schedule = ScheduleKind::interleaved;
  run.parallel.pipeline_chunks = 3;
  expect_close(train_on(run, with_data, 4), data);
  run.parallel.pipeline_schedule = ScheduleKind::zero_bubble_v;
  expect_close(train_on(run, with_data, 4), data);
}

TEST_P(Stages, agree_with_data_parallel_ranks) {
  if (ranks() == 8) GTEST_SKIP() << "more ranks than blocks";
  const Trained data = train_on(tiny(), no_stages(), 1);
  for (const int micro_batches : {1, 4}) {
    SCOPED_TRACE(micro_batches);
    expect_close(train_on(tiny(), only_stages(), micro_batches), data);
  }
  RunConfig uneven = tiny();
  uneven.parallel.pipeline_layers = ranks() == 2 ? std::vector<int>{5, 1} : std::vector{1, 3, 1, 1};
  expect_close(train_on(uneven, only_stages(), 4), data);
  if (ranks() != 4) return;
  RunConfig run = tiny();
  expect_close(train_on(run, {{2, 1, 2, 1, 1}}, 4), data);
  run.training.reduce_every_micro_batch = true;
  run.training.reshard_after_forward = true;
  expect_close(train_on(run, {{2, 1, 2, 1, 1}}, 4), data);
}

TEST_P(Stages, recomputation_changes_no_bit) {
  if (ranks() == 8) GTEST_SKIP() << "more ranks than blocks";
  RunConfig run = tiny();
  const Trained none = train_on(run, only_stages(), 4);
  run.activation_checkpoint.mode = RecomputeMode::full;
  expect_same_bits(none, train_on(run, only_stages(), 4));
}

class Replicas : public Meshes {
 protected:
  MeshShape copies(int replicas) const { return {{1, replicas, ranks() / replicas, 1, 1}}; }
};

TEST_P(Replicas, agree_with_shards_over_all_ranks) {
  if (ranks() == 8) GTEST_SKIP() << "too few sequences";
  const Trained data = train_on(tiny(), no_stages(), 1);
  for (const int replicas : {2, 4}) {
    if (ranks() % replicas != 0) continue;
    SCOPED_TRACE(replicas);
    for (const int micro_batches : {1, 2}) {
      expect_close(train_on(tiny(), copies(replicas), micro_batches), data);
    }
    RunConfig run = tiny();
    run.training.reduce_every_micro_batch = false;
    expect_close(train_on(run, copies(replicas), 2), data);
  }
}

TEST_P(Replicas, stages_and_tensor_parallel_ranks_within) {
  if (ranks() < 4) GTEST_SKIP() << "too few ranks";
  const Trained data = train_on(tiny(), no_stages(), 1);
  const int shards = ranks() / 4;
  expect_close(train_in_all_orders(tiny(), {{2, 2, shards, 1, 1}}, 2), data);
  expect_close(train_on(tiny(), {{1, 2, shards, 1, 2}}, 2), data);
}

TEST_P(Replicas, recomputation_changes_no_bit) {
  if (ranks() == 8) GTEST_SKIP() << "too few sequences";
  RunConfig run = tiny();
  const Trained none = train_on(run, copies(2), 2);
  run.activation_checkpoint.mode = RecomputeMode::full;
  expect_same_bits(none, train_on(run, copies(2), 2));
}

TEST_P(Replicas, may_add_up_in_bfloat16) {
  if (ranks() == 8) GTEST_SKIP() << "too few sequences";
  RunConfig run = tiny();
  const Trained wide = train_on(run, copies(2), 2);
  run.training.mixed_precision_reduce = DType::bfloat16;
  for (const int replicas : {2, ranks()}) {
    SCOPED_TRACE(replicas);
    const Trained narrow = train_on(run, copies(replicas), 2);
    for (std::size_t s = 0; s < wide.losses.size(); ++s) {
      EXPECT_NEAR(narrow.losses[s], wide.losses[s], 2e-3) << "step " << s;
      EXPECT_NEAR(narrow.norms[s], wide.norms[s], 1e-2 * wide.norms[s]) << "step " << s;
    }
    EXPECT_NE(narrow.norms, wide.norms);
  }
}

std::vector<Backend> backends() {
  std::vector<Backend> all = {Backend::host};
  if (is_built_in(Backend::cuda)) all.push_back(Backend::cuda);
  return all;
}

std::string name_of(const ::testing::TestParamInfo<Backend>& info) {
  return std::string(to_string(info.param));
}
INSTANTIATE_TEST_SUITE_P(Backends, Stages, ::testing::ValuesIn(backends()), name_of);
INSTANTIATE_TEST_SUITE_P(Backends, Replicas, ::testing::ValuesIn(backends()), name_of);

}  // namespace
}  // namespace koios::testing
