#include "train/traffic_plan.hpp"

#include <algorithm>
#include <vector>

#include "core/integers.hpp"

namespace koios {

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
  return plan;
}

}  // namespace koios
