#include "train/training_memory.hpp"

#include <algorithm>

namespace koios {

namespace {

constexpr std::string_view kBatch = "batch";

std::vector<BatchBuffers> take_batches(Arena& arena, const TrainingShape& shape, int slots) {
  std::vector<BatchBuffers> batches;
  for (int slot = 0; slot < slots; ++slot) batches.emplace_back(arena, shape);
  return batches;
}

}  // namespace

BatchBuffers::BatchBuffers(Arena& arena, const TrainingShape& shape) {
  const std::int64_t n = shape.micro_batch.tokens();
  const std::int64_t distinct = std::min(n, shape.model.vocab_size);
  token_N = arena.take<std::int32_t>(kBatch, n);
  label_N = arena.take<std::int32_t>(kBatch, n);
  if (shape.micro_batch.document_mask) {
    document_start_N = arena.take<std::int32_t>(kBatch, n);
    const bool is_whole = shape.micro_batch.context_ranks == 1;
    if (is_whole) document_begin_N1 = arena.take<std::int32_t>(kBatch, n + 1);
  }
  sort_position_N = arena.take<std::int32_t>(kBatch, n);
  sort_begin_S1 = arena.take<std::int32_t>(kBatch, distinct + 1);
  sort_token_S = arena.take<std::int32_t>(kBatch, distinct);
}

template <class T>
TrainingMemory<T>::TrainingMemory(Arena& arena, const TrainingShape& shape,
                                  const ShardLayout& layout)
    : parameters(arena, layout, shape.moments),
      gradients(arena, layout, shape.reduce),
      gather(arena, layout, shape.gather),
      stage(arena, shape.stage(layout.stage()), layout),
      norm(arena),
      nonfinite(arena, layout),
      batch(take_batches(arena, shape, shape.stage(layout.stage()).runs.front().slots)),
      loss_sum(arena.take<float>(kBatch, 1)),
      library_workspace(arena.take<std::byte>("library workspace",
                                              MathHandles::gemm_workspace_bytes(shape.backend))) {}

template struct TrainingMemory<float>;
template struct TrainingMemory<bf16>;

MemoryPlan plan_memory(const TrainingShape& shape, int stage) {
  Arena planner = Arena::planner(shape.backend);
  const ShardLayout layout = shard_layout(shape, shape.first_rank(stage));
  if (shape.compute == DType::bfloat16) {
    TrainingMemory<bf16>(planner, shape, layout);
  } else {
    TrainingMemory<float>(planner, shape, layout);
  }
  return planner.taken();
}

std::vector<MemoryPlan> plan_memory_of_stages(const TrainingShape& shape) {
  std::vector<MemoryPlan> plans;
  for (int stage = 0; stage < shape.mesh.size(Axis::pp); ++stage) {
    plans.push_back(plan_memory(shape, stage));
  }
  return plans;
}

const MemoryPlan& largest(const std::vector<MemoryPlan>& plans) {
  return *std::max_element(plans.begin(), plans.end(), [](const auto& a, const auto& b) {
    return a.total_bytes < b.total_bytes;
  });
}

std::string smaller_plan(DType moments) {
  return cat("fewer sequences per rank (training/batch_size), a shorter training/seq_len",
             moments == DType::float32 ? ", optimizer/state_dtype = bfloat16" : "",
             " or more recomputation (--dry-run prints the plan)");
}

std::int64_t activation_bytes(const MemoryPlan& plan) {
  std::int64_t bytes = 0;
  for (const auto& line : plan.lines) {
    if (line.label == kActivations || line.label == kRecomputed) bytes += line.bytes;
  }
  return bytes;
}

}  // namespace koios
