// The real training step (sharded over the ranks of this job) against PyTorch in float64: losses,
// gradient norms, gradients of the first step, parameters at the end.
//
// Tolerances. PyTorch's own float32 differs from its float64 by 1.4e-7 in the loss, 1.7e-7 in the
// norm, 1.4e-6 in the worst gradient (relative 2-norm) and 8e-5 of the distance travelled in the
// worst parameter (the file stores each). Ours sums in other orders, so a few times that: 2e-6 for
// scalars, 8 times each tensor's own figure for gradients, 5e-4 of the distance for parameters. On
// this model a rope theta of 9999 changes gradients by 1.9e-5, an epsilon of 1e-6 by 9e-5, a
// missing weight decay parameters by 0.2: all beyond the bounds.
//
// In FP8 a last bit of float32 can decide to which side a value is rounded, a step of 6% of it. The
// loss of the first step still agrees to 2e-7 between PyTorch's float32 and float64, its gradients
// to 0.02 and later losses to 2e-3; without FP8 gradients differ by 0.2. Where ranks scale their
// own share of a tensor, scales are others than the file's, and gradients differ as by FP8 itself.
#include <gtest/gtest.h>
#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <tuple>

#include "environment.hpp"
#include "golden_file.hpp"
#include "runtime/copy.hpp"
#include "sequence_parts.hpp"
#include "train/step.hpp"
#include "train/traffic_plan.hpp"

namespace koios::testing {
namespace {

/// Of the source tree, unless the test was carried to another machine.
std::string golden_folder() {
  const char* elsewhere = std::getenv("KOIOS_GOLDEN_DIR");
  return elsewhere != nullptr ? elsewhere : KOIOS_GOLDEN_DIR;
}

void to_device(Stream& stream, Ref<float, 1> data, std::vector<float> host) {
  copy(stream, any(data), any(make_ref(host.data(), data.size())));
  stream.synchronize();
}

/// A backend and how its ranks exchange shards, a reference file, into how many micro-batches each
/// rank's share is cut, how many ranks share each layer, and how many hold the whole model
/// together.
struct Case {
  Backend backend;
  ShardTransport transport;
  std::string file;
  int micro_batches;
  int tp = 1;
  bool loss_parallel = true;
  Norm norm = Norm::rmsnorm;
  Fp8Recipe fp8 = Fp8Recipe::none;
  int replicas = 1;
  int cp = 1;  // ranks that share each sequence
};

/// How far from the file the results may be.
struct Bounds {
  double first_loss = 2e-6, loss = 2e-6, grad_norm = 2e-6;
  double gradient = 0;  // 0: 8 times PyTorch's own float32
  double parameter = 5e-4;
};
/// Tensor cores keep fewer bits of 8-bit sums, so that values of the next layer are rounded the
/// other way: an H200's first loss is off by 2e-3, its gradients by 0.11 to 0.18.
Bounds bounds_of(Fp8Recipe fp8, int ranks, Backend backend) {
  if (fp8 == Fp8Recipe::none) return {};
  // A value that is rounded the other way moves the first loss by 2.4e-5 in the files of rows and
  // blocks: so does PyTorch, if the embedding is changed by 1e-7.
  const double first_loss = fp8 == Fp8Recipe::tensorwise ? 2e-6 : 5e-5;
  if (ranks == 1 && backend == Backend::host) return {first_loss, 5e-3, 0.02, 0.06, 0.4};
  return {5e-3, 1e-2, 0.1, 0.4, 0.6};
}

class LlamaGolden : public ::testing::TestWithParam<Case> {
 protected:
  LlamaGolden()
      : golden_(golden_folder() + "/" + GetParam().file),
        batch_(golden_.integer("batch_size")),
        seq_len_(golden_.integer("seq_len")),
        tokens_(golden_.integers("tokens")) {
    const auto [replicas, cp, tp] = std::tuple(GetParam().replicas, GetParam().cp, GetParam().tp);
    const int others = replicas * cp * tp;
    mesh_.extent = {1, replicas, std::max(1, mpi_env().size() / others), cp, tp};
  }

  /// Why this case is not one for this number of ranks.
  std::string unfit() const {
    const Backend backend = GetParam().backend;
    if (mesh_.ranks() != mpi_env().size()) return "the mesh needs other ranks";
    if (batch_ % (mesh_.dp() * GetParam().micro_batches) != 0) {
      return cat("a batch of ", batch_, " does not divide");
    }
    const std::int64_t tokens =
        batch_ / (mesh_.dp() * GetParam().micro_batches) * seq_len_ / GetParam().cp;
    if (tokens % GetParam().tp != 0) return cat(tokens, " tokens do not divide");
    const int shard_ranks = mesh_.size(Axis::dp_shard) * mesh_.size(Axis::cp);
    if (GetParam().fp8 == Fp8Recipe::block && golden_.integer("dim") % (16 * shard_ranks) != 0) {
      return "the rows of a parameter do not divide";
    }
    if (backend == Backend::cuda && device_env().backend() != backend) return "no GPU here";
    if (backend == Backend::cuda && count_gpus() < mpi_env().local_size()) {
      return "fewer GPUs than ranks";
    }
    return {};
  }

  RunConfig config() const {
    RunConfig c;
    c.comm.shard_transport = GetParam().transport;
    c.model.dim = golden_.integer("dim");
    c.model.n_layers = golden_.integer("n_layers");
    c.model.n_heads = golden_.integer("n_heads");
    c.model.n_kv_heads = golden_.integer("n_kv_heads");
    c.model.ffn_dim = golden_.integer("ffn_dim");
    c.model.norm_type = GetParam().norm;
    c.model.norm_eps = golden_.real("norm_eps");
    c.model.rope_theta = golden_.real("rope_theta");
    c.training.seq_len = seq_len_;
    c.training.batch_size = batch_ / (mesh_.dp() * GetParam().micro_batches);
    c.training.fp8_linear = GetParam().fp8;
    c.parallel.enable_loss_parallel = GetParam().loss_parallel;
    c.training.gradient_accumulation_steps = GetParam().micro_batches;
    c.training.steps = golden_.integer("steps");
    c.training.warmup_steps = golden_.integer("warmup_steps");
    c.training.max_norm = golden_.real("max_norm");
    c.optimizer.name =
        golden_.text("optimizer") == "adam" ? OptimizerName::adam : OptimizerName::adamw;
    c.optimizer.lr = golden_.real("lr");
    c.optimizer.beta1 = golden_.real("beta1");
    c.optimizer.beta2 = golden_.real("beta2");
    c.optimizer.eps = golden_.real("adam_eps");
    c.optimizer.weight_decay = golden_.real("weight_decay");
    return c;
  }

  /// This rank's part of sequences [first, first + count) of a step.
  Batch batch(std::int64_t step, std::int64_t first, std::int64_t count) const {
    Batch b;
    b.sequences = count;
    b.seq_len = seq_len_;
    for (std::int64_t i = first; i < first + count; ++i) {
      const std::int32_t* row = tokens_.data() + (step * batch_ + i) * (seq_len_ + 1);
      b.tokens.insert(b.tokens.end(), row, row + seq_len_);
      b.labels.insert(b.labels.end(), row + 1, row + seq_len_ + 1);
    }
    return part_of(b, {GetParam().cp, mesh_.coordinate(mpi_env().rank(), Axis::cp)});
  }

  /// What this rank has of a parameter, out of the golden dataset of the whole.
  std::vector<double> golden_part(const ParameterLayout& p, const std::string& group) const {
    const auto all = golden_.reals(group + "/" + p.spec.name);
    EXPECT_EQ(static_cast<std::int64_t>(all.size()), p.spec.size()) << p.spec.name;
    std::vector<double> mine;
    for (std::int64_t row = 0; row < p.here.rows.count; ++row) {
      const auto begin = all.begin() + (p.here.rows.first + row) * p.spec.cols + p.here.cols.first;
      mine.insert(mine.end(), begin, begin + p.cols);
    }
    return mine;
  }

  /// Calls f(parameter, this rank's part in the shard, the same part of the golden dataset).
  template <class F>
  void for_each_parameter(const ShardLayout& layout, std::vector<float>& flat,
                          const std::string& group, F f) const {
    const auto shard = make_ref(flat.data(), flat.size());
    for (const UnitLayout& unit : layout.units()) {
      for (const ParameterLayout& p : unit.parameters) {
        const std::vector<double> mine = golden_part(p, group);
        f(p, slice(shard, p.in_shard.first, p.here.size()), mine.data());
      }
    }
  }

  /// |a - b| / |scale| over all ranks; scale[i] is taken at the same element.
  template <class A, class B, class S>
  static double relative_distance(std::int64_t n, A a, B b, S scale) {
    double sums[2] = {0, 0};
    for (std::int64_t i = 0; i < n; ++i) {
      sums[0] += std::pow(a(i) - b(i), 2);
      sums[1] += std::pow(scale(i), 2);
    }
    MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    return std::sqrt(sums[0] / sums[1]);
  }

  GoldenFile golden_;
  std::int64_t batch_;
  std::int64_t seq_len_;
  std::vector<std::int32_t> tokens_;
  MeshShape mesh_;
};

TEST_P(LlamaGolden, training_agrees_with_pytorch) {
  const MpiEnv& mpi = mpi_env();
  if (const std::string reason = unfit(); !reason.empty()) GTEST_SKIP() << reason;
  const Backend backend = GetParam().backend;
  device_env();
  RunConfig run = config();
  run.training.mixed_precision_param = DType::float32;
  const Mesh mesh(mpi, mesh_, backend, {.shard_transport = GetParam().transport});
  const TrainingShape shape = training_shape(run, mesh_, backend, golden_.integer("vocab_size"));
  TrainingParts<float> parts(shape, mpi.rank());
  const ShardLayout& layout = parts.layout;
  const auto& memory = parts.memory;
  Stream& stream = parts.streams.compute;
  const std::string travel = mesh.share_memory(parts.arena.memory());
  if (backend == Backend::cuda && shape.shard_ranks() > 1) {
    const bool by_engines = GetParam().transport == ShardTransport::copy_engine;
    EXPECT_EQ(travel, by_engines ? "shards travel by copy engines" : "shards travel by NCCL");
  }
  TrainStep<float> step(run, shape, mesh, parts);

  std::vector<float> master = to_host(stream, memory.parameters.master);
  for_each_parameter(layout, master, "params_initial",
                     [](const auto&, Ref<float, 1> mine, const double* golden) {
                       for (std::int64_t i = 0; i < mine.size(); ++i) {
                         mine[i] = static_cast<float>(golden[i]);
                       }
                     });

  to_device(stream, memory.parameters.master, master);

  const Bounds bounds = bounds_of(GetParam().fp8, mpi.size(), GetParam().backend);
  const std::int64_t share = run.training.batch_size * GetParam().micro_batches;
  StepResults results(backend, 1, share * seq_len_ / GetParam().cp);
  const auto losses = golden_.reals("losses");
  const auto norms = golden_.reals("grad_norms");
  const auto rates = golden_.reals("lrs");
  for (std::int64_t s = 0; s < run.training.steps; ++s) {
    std::int64_t micro = 0;
    step.run(
        s,
        [&] {
          return batch(s,
                       mesh_.dp_coordinate(mpi.rank()) * share + run.training.batch_size * micro++,
                       run.training.batch_size);
        },
        results);
    const StepResult result = results.read().at(0);
    double loss = result.loss;
    MPI_Allreduce(MPI_IN_PLACE, &loss, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    loss /= mpi.size();
    const auto at = static_cast<std::size_t>(s);
    EXPECT_NEAR(loss, losses[at], (s == 0 ? bounds.first_loss : bounds.loss) * losses[at])
        << "step " << s;
    EXPECT_NEAR(result.grad_norm, norms[at], bounds.grad_norm * norms[at]) << "step " << s;
    EXPECT_DOUBLE_EQ(step.lr(s), rates[at]) << "step " << s;
    if (s > 0) continue;
    std::vector<float> gradients = to_host(stream, memory.gradients.shard);
    for_each_parameter(layout, gradients, "gradients_step1",
                       [&](const ParameterLayout& p, Ref<float, 1> mine, const double* golden) {
                         const double distance = relative_distance(
                             mine.size(), [&](auto i) { return mine[i]; },
                             [&](auto i) { return golden[i]; }, [&](auto i) { return golden[i]; });
                         const double bound =
                             bounds.gradient > 0
                                 ? bounds.gradient
                                 : 8 * golden_.fp32_rel_diff("gradients_step1/" + p.spec.name);
                         EXPECT_LE(distance, bound) << p.spec.name;
                       });
  }

  master = to_host(stream, memory.parameters.master);
  for_each_parameter(layout, master, "params_final",
                     [&](const ParameterLayout& p, Ref<float, 1> mine, const double* golden) {
                       const auto start = golden_part(p, "params_initial");
                       const double distance = relative_distance(
                           mine.size(), [&](auto i) { return mine[i]; },
                           [&](auto i) { return golden[i]; },
                           [&](auto i) { return golden[i] - start[static_cast<std::size_t>(i)]; });
                       EXPECT_LE(distance, bounds.parameter) << p.spec.name;
                     });

  // What was sent is what the plan says.
  const SentBytes traffic = plan_traffic(shape);
  EXPECT_EQ(mesh.shard_gather().traffic().all_gather_bytes,
            traffic.all_gather_bytes * run.training.steps);
  EXPECT_EQ(mesh.shard_reduce().traffic().reduce_scatter_bytes,
            traffic.reduce_scatter_bytes * run.training.steps);
  EXPECT_EQ(mesh.replicate().traffic().all_reduce_bytes,
            traffic.replica_all_reduce_bytes * run.training.steps);
  EXPECT_EQ(mesh.context().traffic().all_gather_bytes +
                mesh.context_reversed().traffic().all_gather_bytes,
            traffic.context_all_gather_bytes * run.training.steps);
  EXPECT_EQ(mesh.tp().traffic().all_gather_bytes,
            traffic.tensor_all_gather_bytes * run.training.steps);
  EXPECT_EQ(mesh.tp().traffic().reduce_scatter_bytes,
            traffic.tensor_reduce_scatter_bytes * run.training.steps);
  mesh.share_memory({});  // no stream is at work any more
}

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add_all = [&](Backend backend, ShardTransport transport) {
    const auto add = [&](const std::string& file, int micro_batches, int tp = 1,
                         bool loss_parallel = true, Norm norm = Norm::rmsnorm,
                         Fp8Recipe fp8 = Fp8Recipe::none, int replicas = 1) {
      all.push_back(
          {backend, transport, file, micro_batches, tp, loss_parallel, norm, fp8, replicas});
    };
    const auto add_shared = [&](const std::string& file, int cp, int tp,
                                Fp8Recipe fp8 = Fp8Recipe::none) {
      all.push_back({backend, transport, file, 1, tp, true, Norm::rmsnorm, fp8, 1, cp});
    };
    for (const int micro_batches : {1, 2, 3}) add("llama_tiny.h5", micro_batches);
    add("llama_tiny_84.h5", 1);
    add("llama_tiny_adam.h5", 1);
    for (const int micro_batches : {1, 2}) add("llama_tiny_mha.h5", micro_batches);
    for (const int tp : {1, 2, 4}) add("llama_tiny_tp.h5", 1, tp);
    add("llama_tiny_tp.h5", 2, 2);
    add("llama_tiny_tp.h5", 1, 2, false);
    const auto add_replicas = [&](const std::string& file, int micro_batches, int tp,
                                  int replicas) {
      add(file, micro_batches, tp, true, Norm::rmsnorm, Fp8Recipe::none, replicas);
    };
    for (const int micro_batches : {1, 3}) add_replicas("llama_tiny.h5", micro_batches, 1, 2);
    add_replicas("llama_tiny_84.h5", 1, 1, 4);
    for (const int tp : {1, 2}) add_replicas("llama_tiny_tp.h5", 1, tp, 2);
    for (const int cp : {2, 3}) add_shared("llama_tiny_tp.h5", cp, 1);
    add_shared("llama_tiny_tp.h5", 2, 2);
    add_shared("llama_tiny_fp8.h5", 2, 1, Fp8Recipe::tensorwise);
    for (const int tp : {1, 2}) {
      for (const auto& [file, recipe] : {std::pair("llama_tiny_fp8.h5", Fp8Recipe::tensorwise),
                                         std::pair("llama_tiny_fp8_rowwise.h5", Fp8Recipe::rowwise),
                                         std::pair("llama_tiny_fp8_block.h5", Fp8Recipe::block)}) {
        add(file, 1, tp, true, Norm::rmsnorm, recipe);
      }
    }
    for (const auto& [file, norm] : {std::pair("llama_tiny_layernorm.h5", Norm::layernorm),
                                     std::pair("llama_tiny_np_layernorm.h5", Norm::np_layernorm)}) {
      add(file, 2, 1, true, norm);
      add(file, 1, 2, true, norm);
    }
  };
  if (is_built_in(Backend::host)) add_all(Backend::host, ShardTransport::automatic);
  if (is_built_in(Backend::cuda)) {
    add_all(Backend::cuda, ShardTransport::copy_engine);
    add_all(Backend::cuda, ShardTransport::nccl);
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Files, LlamaGolden, ::testing::ValuesIn(cases()), [](const auto& info) {
  const std::string stem = info.param.file.substr(0, info.param.file.find('.'));
  const char* by = info.param.transport == ShardTransport::copy_engine ? "_copy_engine" : "";
  return cat(to_string(info.param.backend), by, "_", stem, "_micro", info.param.micro_batches,
             "_tp", info.param.tp, info.param.cp > 1 ? cat("_cp", info.param.cp) : "",
             info.param.loss_parallel ? "" : "_logits_gathered",
             info.param.replicas == 1 ? "" : cat("_replicas", info.param.replicas));
});

}  // namespace
}  // namespace koios::testing
