#include "train/training_shape.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "config/deck_error.hpp"
#include "core/integers.hpp"
#include "pipeline/partition.hpp"
#include "train/flops.hpp"

namespace koios {
namespace {

RecomputePolicy recompute_policy(const ActivationCheckpointConfig& config) {
  if (config.mode == RecomputeMode::none) return {};
  if (config.mode == RecomputeMode::full) return {Recompute::full, 1};
  switch (config.selective_ac_option.kind) {
    case SelectiveOption::Kind::blocks:
      return {Recompute::full, config.selective_ac_option.every};
    case SelectiveOption::Kind::op:
      return {Recompute::op, 1};
    case SelectiveOption::Kind::op_half:
      return {Recompute::op_half, 1};
  }
  KOIOS_REQUIRE(false, "unknown option");
}

/// The deck's rules know the vocabulary only where the deck gives it.
void require_equal_vocabularies(std::int64_t vocab_size, std::int64_t tensor_ranks) {
  if (vocab_size % tensor_ranks == 0) return;
  throw DeckValueError(
      {"training/tensor_parallel_degree"},
      cat("[training] tensor_parallel_degree = ", tensor_ranks, " does not divide the ", vocab_size,
          " tokens of the vocabulary; set [model] vocab_size = ",
          round_up(vocab_size, tensor_ranks), ": what is beyond the tokenizer's is padding"));
}

/// How a rank can cast its rows of a block's matrices before they are gathered. Squares that reach
/// over two parameters belong to the stack that a product multiplies with: that is cast as a whole.
std::optional<Fp8ScaleKind> narrow_scale(const TrainingShape& shape) {
  if (!shape.fp8.is_on()) return std::nullopt;
  const Fp8ScaleKind kind = fp8_weight_scale(shape.fp8.recipe);
  if (kind != Fp8ScaleKind::square) return kind;
  const LocalShape local{shape.model, shape.tensor, shape.micro_batch};
  for (const std::int64_t rows : {local.q_cols, local.kv_cols, local.ffn, shape.model.dim}) {
    if (rows % kFp8Block != 0) return std::nullopt;
  }
  return kind;
}

/// What the products ask of the sizes of a rank's matrices.
void require_fp8_sizes(const TrainingShape& shape) {
  if (!shape.fp8.is_on()) return;
  const LocalShape local{shape.model, shape.tensor, shape.micro_batch};
  constexpr std::int64_t kMultiple = 16;
  const std::pair<const char*, std::int64_t> sizes[] = {{"batch_size * seq_len", local.tokens},
                                                        {"dim", shape.model.dim},
                                                        {"the queries' width", local.q_cols},
                                                        {"the keys' width", local.kv_cols},
                                                        {"ffn_dim", local.ffn}};
  for (const auto& [name, size] : sizes) {
    if (shape.backend == Backend::host || size % kMultiple == 0) continue;
    throw DeckValueError({"training/fp8_linear"},
                         cat("[training] fp8_linear: on a GPU all sizes of a rank's products must "
                             "be multiples of ",
                             kMultiple, ", and ", name, " is ", size));
  }
}

/// By itself where copy engines do it. (Over NCCL it gains nothing: docs/performance.md.)
bool is_asynchronous(const RunConfig& config, Backend backend) {
  const bool by_copies =
      backend == Backend::cuda && config.comm.shard_transport != ShardTransport::nccl;
  return config.parallel.async_tp.value_or(by_copies &&
                                           config.training.fp8_linear == Fp8Recipe::none);
}

}  // namespace

DType compute_type(std::optional<DType> chosen, Backend backend) {
  return chosen.value_or(backend == Backend::cuda ? DType::bfloat16 : DType::float32);
}

TrainingShape training_shape(const RunConfig& config, const MeshShape& mesh, Backend backend,
                             std::int64_t vocab_size) {
  TrainingShape shape;
  shape.backend = backend;
  shape.compute = compute_type(config.training.mixed_precision_param, backend);
  shape.moments = config.optimizer.state_dtype;
  const ModelConfig& m = config.model;
  shape.model = {.dim = m.dim,
                 .n_layers = m.n_layers,
                 .n_heads = m.n_heads,
                 .n_kv_heads = m.n_kv_heads,
                 .ffn_dim = m.ffn_dim,
                 .vocab_size = vocab_size,
                 .norm = m.norm_type,
                 .norm_eps = static_cast<float>(m.norm_eps),
                 .rope_theta = m.rope_theta,
                 .depth_init = m.depth_init};
  shape.tensor = {.ranks = mesh.size(Axis::tp),
                  .loss_parallel = config.parallel.enable_loss_parallel,
                  .asynchronous = is_asynchronous(config, backend)};
  require_equal_vocabularies(vocab_size, shape.tensor.ranks);
  shape.micro_batch = {config.training.batch_size, config.training.seq_len,
                       config.data.document_mask, mesh.size(Axis::cp)};
  shape.mesh = mesh;
  shape.fp8 = {config.training.fp8_linear, config.training.fp8_skip_blocks,
               config.training.fp8_fast_backward, config.training.fp8_scales};
  const bool has_stages = mesh.size(Axis::pp) > 1;
  // Between the stages' passes weights would be gathered, and gradients reduced, micro-batch by
  // micro-batch: with stages they stay where they are for a whole step.
  shape.gather = {config.training.reshard_after_forward.value_or(!has_stages),
                  config.training.prefetch_blocks, narrow_scale(shape),
                  config.training.keep_cast_shards.value_or(shape.shard_ranks() == 1)};
  shape.reduce = {
      .dtype = config.training.mixed_precision_reduce,
      .every_micro_batch = config.training.reduce_every_micro_batch.value_or(!has_stages),
      .micro_batches = narrow<int>(config.training.gradient_accumulation_steps),
      .replicas = mesh.size(Axis::dp_replicate),
      .scratch_factor = reduce_scratch_factor(backend, config.comm.shard_transport)};
  shape.recompute = recompute_policy(config.activation_checkpoint);
  shape.pipeline.schedule = config.parallel.pipeline_schedule;
  shape.pipeline.runs = has_stages ? config.parallel.pipeline_runs() : 1;
  for (const int n : config.parallel.pipeline_layers) shape.pipeline.blocks.push_back(n);
  shape.math.attention = m.attention;
  shape.math.deterministic = config.job.deterministic;
  // Timed choices differ from start to start; a deterministic run takes the heuristic's first.
  if (backend == Backend::cuda && !config.job.deterministic) {
    shape.math.gemm_cache_file = (config.job.dump_folder / "gemm_choices.txt").string();
    shape.math.more_gemm_choices = config.job.gemm_choices.string();
  }
  require_fp8_sizes(shape);
  shape.async_saves = config.checkpoint.is_on() && config.checkpoint.asynchronous;
  return shape;
}

namespace {

UnitCosts unit_costs(const TrainingShape& shape) {
  return {.block = block_flops_per_token(shape.model, shape.micro_batch.seq_len),
          .head = head_flops_per_token(shape.model)};
}

}  // namespace

StageShape TrainingShape::stage(int stage) const {
  StageShape s{.model = model,
               .tensor = tensor,
               .micro_batch = micro_batch,
               .recompute = recompute,
               .math = math,
               .runs = {},
               .fp8 = fp8,
               .casts_weights = fp8.is_on() && !gather.narrow};
  const std::vector<Pass> passes = schedule(stage);
  const std::vector<int> path = this->path();
  int sent_to = stage;  // by the run before
  for (std::size_t part = 0; part < path.size(); ++part) {
    if (path[part] != stage) continue;
    const int slots = micro_batches_in_flight(passes, narrow<int>(std::ssize(s.runs)));
    // Of what is received one more than are in flight, so that the next can travel beside a pass.
    const bool is_received = part > 0 && path[part - 1] != stage;
    const int inputs = std::min(slots + (is_received ? 1 : 0), reduce.micro_batches);
    const int to = part + 1 < path.size() ? path[part + 1] : stage;
    const bool has_outputs = to != stage && to != sent_to;
    s.runs.push_back({.slots = slots,
                      .inputs = part > 0 ? inputs : 0,
                      .outputs = has_outputs ? std::min(2, reduce.micro_batches) : 0});
    sent_to = to;
  }
  s.splits_backward = splits_backward(pipeline.schedule);
  s.scratch_factor = reduce.scratch_factor;
  return s;
}

std::vector<std::int64_t> TrainingShape::blocks_of_runs() const {
  if (!pipeline.blocks.empty()) return pipeline.blocks;
  return divide_blocks(model.n_layers, path(), unit_costs(*this));
}

std::vector<double> TrainingShape::flops_of_stages() const {
  return stage_costs(blocks_of_runs(), path(), unit_costs(*this));
}

namespace {

/// Numbers of the units of a stage's runs: the embedding is 0, the blocks follow, the head is last.
std::vector<std::vector<int>> runs_of_stage(const TrainingShape& shape, int stage) {
  const std::vector<std::int64_t> blocks = shape.blocks_of_runs();
  const std::vector<int> path = shape.path();
  std::vector<std::vector<int>> runs;
  int next = 0;
  for (std::size_t part = 0; part < path.size(); ++part) {
    const bool is_first = part == 0;
    const bool is_last = part + 1 == path.size();
    const auto count = narrow<std::size_t>(blocks[part] + (is_first ? 1 : 0) + (is_last ? 1 : 0));
    std::vector<int> run(count);
    std::iota(run.begin(), run.end(), next);
    next = run.back() + 1;
    if (path[part] == stage) runs.push_back(std::move(run));
  }
  return runs;
}

}  // namespace

ShardLayout shard_layout(const TrainingShape& shape, int rank) {
  const int place = shape.mesh.coordinate(rank, Axis::dp_shard) * shape.mesh.size(Axis::cp) +
                    shape.mesh.coordinate(rank, Axis::cp);
  const int stage = shape.mesh.coordinate(rank, Axis::pp);
  return {model_units(shape.model, shape.fp8),
          {.ranks = shape.shard_ranks(),
           .rank = place,
           .tensor = {shape.mesh.size(Axis::tp), shape.mesh.coordinate(rank, Axis::tp)},
           .replica = shape.mesh.coordinate(rank, Axis::dp_replicate),
           .stage = stage,
           .runs = runs_of_stage(shape, stage)}};
}

}  // namespace koios
