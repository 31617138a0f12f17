#include "shard/gradient_reduce.hpp"

#include <algorithm>

#include "core/integers.hpp"
#include "kernels/elementwise.hpp"
#include "runtime/region.hpp"

namespace koios {
namespace {

/// Two: one block writes its gradients while another's are on their way.
constexpr int kBlockBuffers = 2;

}  // namespace

GradientBuffers::GradientBuffers(Arena& arena, const ShardLayout& layout,
                                 const ReduceOptions& options)
    : shard(arena.take<float>("gradient shard", layout.shard_size())) {
  std::int64_t largest_shard = 0;
  std::int64_t largest_full = 0;
  for (const UnitLayout& unit : layout.units()) {
    if (!unit.is_held) continue;
    largest_shard = std::max(largest_shard, unit.in_shard.count);
    largest_full = std::max(largest_full, unit.full_size);
  }
  if (options.dtype == DType::bfloat16 && options.replicas > 1) {
    narrow_replica = arena.take<bf16>("gradients in bfloat16", largest_shard);
  }
  if (layout.ranks() == 1) return;
  const int units = narrow<int>(static_cast<std::int64_t>(layout.units().size()));
  slots.emplace(arena, "full gradients", layout, options.every_micro_batch ? kBlockBuffers : units);
  if (options.dtype == DType::bfloat16) {
    narrow_full = arena.take<bf16>("gradients in bfloat16", largest_full);
    narrow_shard = arena.take<bf16>("gradients in bfloat16", largest_shard);
  } else if (options.micro_batches > 1 && options.every_micro_batch) {
    micro_batch = arena.take<float>("gradient micro-batch", largest_shard);
  }
  if (options.scratch_factor > 0) {
    reduce_scratch = arena.take<float>(
        "reduce-scatter scratch",
        ceil_div(largest_full * size_of(options.dtype), sizeof(float)) * options.scratch_factor);
  }
}

GradientReduce::GradientReduce(const ShardLayout& layout, GradientBuffers buffers,
                               const ReduceOptions& options, Communicator& group,
                               Communicator& replicas, const ReduceStreams& streams,
                               ExposedWait& exposed)
    : layout_(layout),
      buffers_(std::move(buffers)),
      options_(options),
      group_(group),
      replicas_(replicas),
      compute_(streams.compute),
      stream_(streams.reduce),
      replicate_(streams.replicate),
      written_(compute_.backend()),
      shard_written_(compute_.backend()),
      exposed_(exposed),
      finished_(compute_.backend()) {
  if (!buffers_.slots) return;
  for (std::size_t i = 0; i < buffers_.slots->buffer.size(); ++i) {
    reduced_.emplace_back(compute_.backend());
  }
  if (buffers_.reduce_scratch.size() > 0) group_.set_reduce_scratch(any(buffers_.reduce_scratch));
}

UnitView<float> GradientReduce::begin(int unit) {
  const UnitLayout& unit_layout = layout_.unit(unit);
  if (!buffers_.slots) return {unit_layout, buffers_.shard.data + unit_layout.in_shard.first};
  exposed_.wait(reduced_[buffers_.slots->slot(unit)]);
  return {unit_layout, buffers_.slots->of(unit).data};
}

template <class T>
void GradientReduce::reduce_scatter(const UnitLayout& unit, Ref<T, 1> full, Ref<T, 1> shard) {
  GroupCall call(group_);
  for (const ParameterLayout& p : unit.parameters) {
    group_.reduce_scatter(any(slice(full, p.full_offset, p.part_size() * layout_.ranks())),
                          any(slice(shard, p.in_shard.from(unit.in_shard.first))), ReduceOp::sum,
                          stream_);
  }
}

template <class T>
void GradientReduce::take(const UnitLayout& unit, Ref<T, 1> arrived, Write write) {
  for (const ParameterLayout& p : unit.parameters) {
    const Ref<float, 1> sum = slice(buffers_.shard, p.in_shard);
    const Ref<const T, 1> part = slice(arrived, p.in_shard.from(unit.in_shard.first));
    if (write == Write::overwrite) {
      cast<float, T>(stream_, sum, part);
    } else {
      add_into<float, T>(stream_, sum, part);
    }
  }
}

void GradientReduce::reduce(int unit, Write write) {
  const UnitLayout& unit_layout = layout_.unit(unit);
  const Ref<float, 1> full = buffers_.slots->of(unit);
  written_.record(compute_);
  stream_.wait(written_);
  const Region region(stream_, unit_layout.name.c_str(),
                      {.bytes = static_cast<double>(full.size() * size_of(options_.dtype))});
  if (options_.dtype == DType::bfloat16) {
    const Ref<bf16, 1> narrow_full = slice(buffers_.narrow_full, 0, full.size());
    cast<bf16, float>(stream_, narrow_full, full);
    reduce_scatter(unit_layout, narrow_full, buffers_.narrow_shard);
    take(unit_layout, buffers_.narrow_shard, write);
  } else if (write == Write::overwrite) {
    reduce_scatter(unit_layout, full, slice(buffers_.shard, unit_layout.in_shard));
  } else {
    reduce_scatter(unit_layout, full, buffers_.micro_batch);
    take(unit_layout, buffers_.micro_batch, write);
  }
  reduced_[buffers_.slots->slot(unit)].record(stream_);
}

void GradientReduce::all_reduce(int unit) {
  const UnitLayout& unit_layout = layout_.unit(unit);
  const Ref<float, 1> shard = slice(buffers_.shard, unit_layout.in_shard);
  shard_written_.record(buffers_.slots ? stream_ : compute_);
  replicate_.wait(shard_written_);
  const Region region(replicate_, unit_layout.name.c_str(),
                      {.bytes = static_cast<double>(shard.size() * size_of(options_.dtype))});
  if (options_.dtype == DType::bfloat16) {
    const Ref<bf16, 1> narrow_shard = slice(buffers_.narrow_replica, 0, shard.size());
    cast<bf16, float>(replicate_, narrow_shard, shard);
    replicas_.all_reduce(any(narrow_shard), ReduceOp::sum, replicate_);
    cast<float, bf16>(replicate_, shard, narrow_shard);
  } else {
    replicas_.all_reduce(any(shard), ReduceOp::sum, replicate_);
  }
}

void GradientReduce::finish() {
  if (options_.replicas > 1) {
    finished_.record(replicate_);  // which has waited for every reduction
  } else if (buffers_.slots) {
    finished_.record(stream_);
  } else {
    return;
  }
  exposed_.wait(finished_);
}

}  // namespace koios
