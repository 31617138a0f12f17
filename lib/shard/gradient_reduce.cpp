#include "shard/gradient_reduce.hpp"

#include <algorithm>

#include "kernels/elementwise.hpp"

namespace koios {
namespace {

/// Two: one block writes its gradients while another's are on their way.
constexpr int kBlockBuffers = 2;

}  // namespace

GradientBuffers::GradientBuffers(Arena& arena, const ShardLayout& layout, int micro_batches,
                                 int reduce_scratch_factor)
    : shard(arena.take<float>("gradient shard", layout.shard_size())) {
  if (layout.ranks() == 1) return;
  slots.emplace(arena, "full gradients", layout, kBlockBuffers);
  std::int64_t largest_shard = 0;
  std::int64_t largest_full = 0;
  for (const UnitLayout& unit : layout.units()) {
    largest_shard = std::max(largest_shard, unit.shard_size);
    largest_full = std::max(largest_full, unit.full_size);
  }
  if (micro_batches > 1) micro_batch = arena.take<float>("gradient micro-batch", largest_shard);
  if (reduce_scratch_factor > 0) {
    reduce_scratch =
        arena.take<float>("reduce-scatter scratch", largest_full * reduce_scratch_factor);
  }
}

GradientReduce::GradientReduce(const ShardLayout& layout, GradientBuffers buffers,
                               Communicator& group, Stream& compute, Stream& reduce,
                               ExposedWait& exposed)
    : layout_(layout),
      buffers_(std::move(buffers)),
      group_(group),
      compute_(compute),
      stream_(reduce),
      written_(compute.backend()),
      exposed_(exposed),
      all_reduced_(compute.backend()) {
  if (!buffers_.slots) return;
  for (std::size_t i = 0; i < buffers_.slots->buffer.size(); ++i) {
    reduced_.emplace_back(compute.backend());
  }
  if (buffers_.reduce_scratch.size() > 0) group_.set_reduce_scratch(any(buffers_.reduce_scratch));
}

GradientReduce::Output GradientReduce::begin(int unit) {
  const UnitLayout& unit_layout = layout_.unit(unit);
  if (!buffers_.slots) {
    return {{unit_layout, buffers_.shard.data + unit_layout.shard_offset},
            first_ ? Write::overwrite : Write::accumulate};
  }
  const auto slot =
      static_cast<std::size_t>(buffers_.slots->slot_of_unit[static_cast<std::size_t>(unit)]);
  exposed_.wait(reduced_[slot]);
  return {{unit_layout, buffers_.slots->of(unit).data}, Write::overwrite};
}

void GradientReduce::reduce(int unit) {
  if (!buffers_.slots) return;
  const UnitLayout& unit_layout = layout_.unit(unit);
  const Ref<float, 1> full = buffers_.slots->of(unit);
  written_.record(compute_);
  stream_.wait(written_);
  const Ref<float, 1> mine =
      first_ ? slice(buffers_.shard, unit_layout.shard_offset, unit_layout.shard_size)
             : slice(buffers_.micro_batch, 0, unit_layout.shard_size);
  {
    GroupCall call(group_);
    for (const ParameterLayout& p : unit_layout.parameters) {
      group_.reduce_scatter(
          any(slice(full, p.full_offset, p.part_size() * layout_.ranks())),
          any(slice(mine, p.shard_offset - unit_layout.shard_offset, p.part_size())), ReduceOp::sum,
          stream_);
    }
  }
  if (!first_) {
    // Parameter by parameter: the scratch's alignment gaps hold what other units left there.
    for (const ParameterLayout& p : unit_layout.parameters) {
      add_into<float, float>(stream_, slice(buffers_.shard, p.shard_offset, p.part_size()),
                             slice(mine, p.shard_offset - unit_layout.shard_offset, p.part_size()));
    }
  }
  const auto slot =
      static_cast<std::size_t>(buffers_.slots->slot_of_unit[static_cast<std::size_t>(unit)]);
  reduced_[slot].record(stream_);
}

void GradientReduce::finish() {
  if (!buffers_.slots) return;
  all_reduced_.record(stream_);
  exposed_.wait(all_reduced_);
}

}  // namespace koios
