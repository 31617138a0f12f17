// Every size a run has, resolved: what the memory plan, the model and the step are built from.
#pragma once

#include "comm/communicator.hpp"
#include "comm/mesh_shape.hpp"
#include "config/run_config.hpp"
#include "kernels/math_handles.hpp"
#include "model/activations.hpp"
#include "model/model_spec.hpp"
#include "pipeline/schedule.hpp"
#include "shard/gradient_reduce.hpp"
#include "shard/weight_gather.hpp"

namespace koios {

struct TrainingShape {
  Backend backend = Backend::host;
  DType compute = DType::float32;  // of weights and activations
  ModelSpec model;
  TensorParallelOptions tensor;
  MicroBatchShape micro_batch;
  MeshShape mesh;
  GatherOptions gather;
  ReduceOptions reduce;
  MathOptions math;
  RecomputePolicy recompute;
  bool async_saves = false;

  /// Ranks that share each parameter.
  int shard_ranks() const { return mesh.size(Axis::dp_shard) * mesh.size(Axis::cp); }
  /// The order in which micro-batches pass through a stage.
  std::vector<Pass> schedule() const { return one_after_another(reduce.micro_batches); }
  StageShape stage() const {
    return {model,     tensor, micro_batch, recompute, math, micro_batches_in_flight(schedule()),
            gather.fp8};
  }
  /// Label tokens of one step, over all ranks.
  std::int64_t tokens_per_step() const {
    return micro_batch.tokens() * reduce.micro_batches * mesh.dp();
  }
};

ShardTransport shard_transport(TransportChoice choice);

/// vocab_size: the model's (the deck's key, or the tokenizer's size where that is 0).
TrainingShape training_shape(const RunConfig& config, const MeshShape& mesh, Backend backend,
                             std::int64_t vocab_size);

/// This rank's place among the ranks that share each parameter.
ShardLayout shard_layout(const TrainingShape& shape, int rank);

}  // namespace koios
