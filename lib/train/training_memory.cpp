#include "train/training_memory.hpp"

#include <algorithm>

namespace koios {

StepBuffers::StepBuffers(Arena& arena, const TrainingShape& shape) {
  constexpr std::string_view kLabel = "batch";
  const std::int64_t n = shape.micro_batch.tokens();
  const std::int64_t distinct = std::min(n, shape.model.vocab_size);
  token_N = arena.take<std::int32_t>(kLabel, n);
  label_N = arena.take<std::int32_t>(kLabel, n);
  if (shape.micro_batch.document_mask) document_start_N = arena.take<std::int32_t>(kLabel, n);
  sort_position_N = arena.take<std::int32_t>(kLabel, n);
  sort_begin_S1 = arena.take<std::int32_t>(kLabel, distinct + 1);
  sort_token_S = arena.take<std::int32_t>(kLabel, distinct);
  loss_sum = arena.take<float>(kLabel, 1);
}

template <class T>
TrainingMemory<T>::TrainingMemory(Arena& arena, const TrainingShape& shape,
                                  const ShardLayout& layout)
    : parameters(arena, layout),
      gradients(arena, layout, shape.reduce),
      gather(arena, layout, shape.gather),
      model(arena, shape.model, shape.micro_batch, shape.math, shape.recompute),
      norm(arena),
      step(arena, shape),
      library_workspace(arena.take<std::byte>("library workspace",
                                              MathHandles::gemm_workspace_bytes(shape.backend))) {}

template struct TrainingMemory<float>;
template struct TrainingMemory<bf16>;

MemoryPlan plan_memory(const TrainingShape& shape) {
  Arena planner = Arena::planner(shape.backend);
  const ShardLayout layout = shard_layout(shape, 0);
  if (shape.compute == DType::bfloat16) {
    TrainingMemory<bf16>(planner, shape, layout);
  } else {
    TrainingMemory<float>(planner, shape, layout);
  }
  return planner.taken();
}

std::int64_t activation_bytes(const MemoryPlan& plan) {
  std::int64_t bytes = 0;
  for (const auto& line : plan.lines) {
    if (line.label == kActivations || line.label == kRecomputed) bytes += line.bytes;
  }
  return bytes;
}

}  // namespace koios
