// All memory of a run, laid out in one place: made once on a planning arena (the printed plan, a
// dry run for any mesh) and once on the real one.
#pragma once

#include "model/activations.hpp"
#include "optim/grad_norm.hpp"
#include "runtime/arena.hpp"
#include "shard/gradient_reduce.hpp"
#include "shard/parameters.hpp"
#include "shard/weight_gather.hpp"
#include "train/nonfinite.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// A micro-batch in the backend's memory.
struct BatchBuffers {
  Ref<std::int32_t, 1> token_N;
  Ref<std::int32_t, 1> label_N;
  Ref<std::int32_t, 1> document_start_N;   // with the mask of documents, else empty
  Ref<std::int32_t, 1> document_begin_N1;  // likewise, and of whole sequences
  Ref<std::int32_t, 1> sort_position_N;
  Ref<std::int32_t, 1> sort_begin_S1;
  Ref<std::int32_t, 1> sort_token_S;

  BatchBuffers(Arena& arena, const TrainingShape& shape);
};

template <class T>
struct TrainingMemory {
  ParameterBuffers parameters;
  GradientBuffers gradients;
  GatherBuffers<T> gather;
  StageBuffers<T> stage;
  GradNormBuffers norm;
  NonfiniteBuffers nonfinite;
  std::vector<BatchBuffers> batch;  // by slot of the stage's first run
  Ref<float, 1> loss_sum;           // over this rank's tokens of the step
  Ref<std::byte, 1> library_workspace;

  TrainingMemory(Arena& arena, const TrainingShape& shape, const ShardLayout& layout);
};

/// Bytes of every part for one rank; all ranks of a stage have the same plan.
MemoryPlan plan_memory(const TrainingShape& shape, int stage = 0);
/// Of each stage.
std::vector<MemoryPlan> plan_memory_of_stages(const TrainingShape& shape);
/// The one that takes most.
const MemoryPlan& largest(const std::vector<MemoryPlan>& plans);

/// What makes it smaller, beside more ranks; moments: their type.
std::string smaller_plan(DType moments);

/// What the blocks' activations take in a plan: those kept, and what blocks share to compute the
/// others again.
std::int64_t activation_bytes(const MemoryPlan& plan);

}  // namespace koios
