// Every size a run has, resolved: what the memory plan, the model and the step are built from.
#pragma once

#include "comm/communicator.hpp"
#include "comm/mesh_shape.hpp"
#include "config/run_config.hpp"
#include "core/sequence_part.hpp"
#include "kernels/math_handles.hpp"
#include "model/activations.hpp"
#include "model/model_spec.hpp"
#include "pipeline/schedule.hpp"
#include "shard/gradient_reduce.hpp"
#include "shard/weight_gather.hpp"

namespace koios {

/// How stages take the micro-batches of a step, and what of the model each has.
struct PipelineOptions {
  ScheduleKind schedule = ScheduleKind::one_f_one_b;
  int runs = 1;                      // of units that each stage has
  std::vector<std::int64_t> blocks;  // of each run in the model's order; empty: by their cost
};

struct TrainingShape {
  Backend backend = Backend::host;
  DType compute = DType::float32;  // of weights and activations
  DType moments = DType::float32;  // of the optimizer
  ModelSpec model;
  TensorParallelOptions tensor;
  MicroBatchShape micro_batch;
  MeshShape mesh;
  GatherOptions gather;
  ReduceOptions reduce;
  MathOptions math;
  RecomputePolicy recompute;
  Fp8Policy fp8;
  PipelineOptions pipeline;
  bool async_saves = false;

  /// Ranks that share each parameter.
  int shard_ranks() const { return mesh.size(Axis::dp_shard) * mesh.size(Axis::cp); }
  /// Which tokens of each of its sequences a rank has.
  SequencePart sequence_part(int rank) const {
    return {mesh.size(Axis::cp), mesh.coordinate(rank, Axis::cp)};
  }
  StagePlace place(int stage) const { return {mesh.size(Axis::pp), stage, pipeline.runs}; }
  /// The first of the ranks that make up a stage.
  int first_rank(int stage) const { return stage * (mesh.ranks() / mesh.size(Axis::pp)); }
  /// The stage that has each run of units, in the model's order.
  std::vector<int> path() const {
    return stage_path(pipeline.schedule, mesh.size(Axis::pp), pipeline.runs);
  }
  /// The order in which micro-batches pass through a stage.
  std::vector<Pass> schedule(int stage) const {
    return make_schedule(pipeline.schedule, place(stage), reduce.micro_batches);
  }
  StageShape stage(int stage) const;
  /// Blocks of each run of units in the model's order.
  std::vector<std::int64_t> blocks_of_runs() const;
  /// Operations of a token on each stage.
  std::vector<double> flops_of_stages() const;
  /// Label tokens of one step, over all ranks.
  std::int64_t tokens_per_step() const {
    return micro_batch.tokens() * reduce.micro_batches * mesh.dp() * mesh.size(Axis::cp);
  }
};

DType compute_type(std::optional<DType> chosen, Backend backend);
/// vocab_size: the model's (the deck's key, or the tokenizer's size where that is 0).
TrainingShape training_shape(const RunConfig& config, const MeshShape& mesh, Backend backend,
                             std::int64_t vocab_size);

/// What this rank has of the model: its stage, and its part of the stage's parameters.
ShardLayout shard_layout(const TrainingShape& shape, int rank);

}  // namespace koios
