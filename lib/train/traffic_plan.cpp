#include "train/traffic_plan.hpp"

#include <algorithm>
#include <vector>

#include "core/integers.hpp"

namespace koios {

namespace {

/// What a rank sends in an all-reduce of that many bytes.
std::int64_t all_reduce_sent(std::int64_t bytes, std::int64_t ranks) {
  return 2 * (ranks - 1) * bytes / ranks;
}

/// Between tensor-parallel ranks. Gathers and reduce-scatters move an activation [N, D] each.
void add_tensor_parallel(TrafficPlan& plan, const TrainingShape& shape, const ShardLayout& layout) {
  const LlamaShapes& m = shape.model;
  const std::int64_t micro_batches = shape.reduce.micro_batches;
  const std::int64_t tokens = shape.micro_batch.tokens();
  const std::int64_t sent_per_column = tokens / m.tp * (m.tp - 1) * size_of(shape.compute);
  // Forward: into q|k|v and w1|w3. Backward: the gradients into wo and w2, and the inputs of q|k|v
  // and w1|w3 again, since only a rank's own rows are kept. Then the head's input and the
  // embedding's gradient.
  std::int64_t gathers = m.n_layers * (2 + 4) + 2;
  // Forward: out of wo and w2. Backward: out of q|k|v and w1|w3. Then embedding and head.
  std::int64_t reduce_scatters = m.n_layers * (2 + 2) + 2;
  if (shape.recompute.level >= Recompute::op_half) {
    // Again into q|k|v and w1|w3 and out of wo; what the forward pass did last is still there.
    const std::int64_t again = m.n_layers / shape.recompute.every - 1;
    gathers += std::max<std::int64_t>(0, again) * 2;
    reduce_scatters += std::max<std::int64_t>(0, again);
  }
  const std::int64_t logits = m.loss_parallel ? 0 : m.vocab_size;
  plan.tensor_all_gather_bytes = micro_batches * sent_per_column * logits;
  if (m.async_tp) {
    // Embedding and head have no product to hide the sum of their outputs under.
    plan.tensor_send_bytes =
        micro_batches * sent_per_column * (gathers + reduce_scatters - 2) * m.dim;
    plan.tensor_reduce_scatter_bytes = micro_batches * sent_per_column * 2 * m.dim;
  } else {
    plan.tensor_all_gather_bytes += micro_batches * sent_per_column * gathers * m.dim;
    plan.tensor_reduce_scatter_bytes = micro_batches * sent_per_column * reduce_scatters * m.dim;
  }

  const std::int64_t chunk = head_chunk(shape.backend, tokens);
  for (std::int64_t first = 0; m.loss_parallel && first < tokens; first += chunk) {
    const std::int64_t bytes = std::min(chunk, tokens - first) * std::int64_t{sizeof(float)};
    plan.all_reduce_bytes +=
        micro_batches * (all_reduce_sent(bytes, m.tp) + all_reduce_sent(2 * bytes, m.tp));
  }
  for (const UnitLayout& unit : layout.units()) {
    for (const ParameterLayout& p : unit.parameters) {
      if (p.spec.split != Split::none) continue;
      plan.all_reduce_bytes += all_reduce_sent(p.part_size() * std::int64_t{sizeof(float)}, m.tp);
    }
  }
}

}  // namespace

TrafficPlan plan_traffic(const TrainingShape& shape) {
  const ShardLayout layout = shard_layout(shape, 0);
  const int ranks = layout.ranks();
  const int units = narrow<int>(static_cast<std::int64_t>(layout.units().size()));
  const int blocks = units - 2;
  const int buffers = shape.gather.reshard_after_forward
                          ? std::min(shape.gather.prefetch_blocks + 1, blocks)
                          : blocks;
  // The order in which a micro-batch needs the units; the embedding's backward needs no weights.
  std::vector<int> order;
  for (int unit = 0; unit < units; ++unit) order.push_back(unit);
  for (int unit = units - 2; unit > 0; --unit) order.push_back(unit);

  const auto sent_elements = [&](int unit) {
    return layout.unit(unit).gathered_elements(ranks) / ranks * (ranks - 1);
  };
  TrafficPlan plan;
  std::vector<int> held(static_cast<std::size_t>(buffers), -1);  // by the blocks' shared buffers
  for (int micro = 0; micro < shape.reduce.micro_batches; ++micro) {
    for (const int unit : order) {
      const bool is_block = unit > 0 && unit + 1 < units;
      if (is_block) {
        int& holder = held[static_cast<std::size_t>((unit - 1) % buffers)];
        if (holder == unit) continue;
        holder = unit;
      } else if (micro > 0) {
        continue;  // embedding and head keep their buffers for the whole step
      }
      plan.all_gather_bytes += sent_elements(unit) * size_of(shape.compute);
    }
  }
  const int reductions = shape.reduce.every_micro_batch ? shape.reduce.micro_batches : 1;
  for (int unit = 0; unit < units; ++unit) {
    plan.reduce_scatter_bytes += reductions * sent_elements(unit) * size_of(shape.reduce.dtype);
  }
  if (shape.model.tp > 1) add_tensor_parallel(plan, shape, layout);
  plan.all_reduce_bytes += all_reduce_sent(
      sizeof(float),
      shape.mesh.group_size({Axis::dp_replicate, Axis::dp_shard, Axis::cp, Axis::tp}));
  return plan;
}

}  // namespace koios
