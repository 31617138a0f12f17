#include "shard/fp8_weights.hpp"

#include "core/error.hpp"
#include "kernels/elementwise.hpp"
#include "runtime/copy.hpp"

namespace koios {

std::int64_t narrow_elements(const UnitLayout& unit) {
  std::int64_t end = 0;
  for (const ParameterLayout& p : unit.parameters) {
    if (p.spec.scale_group < 0) return p.full_offset;
    end = unit.full_size;
  }
  return end;
}

ScaleRanges::ScaleRanges(const ShardLayout& layout) {
  for (const UnitLayout& unit : layout.units()) {
    std::vector<int>& groups = of_group.emplace_back();
    if (!unit.is_held) continue;
    int group = -2;  // of the range that is open
    for (const ParameterLayout& p : unit.parameters) {
      if (p.spec.scale_group == group) continue;
      group = p.spec.scale_group;
      if (group >= 0) {
        KOIOS_REQUIRE(group == std::ssize(groups), p.spec.name, ": scale groups out of order");
        groups.push_back(static_cast<int>(std::ssize(begin)));
      }
      begin.push_back(p.shard_offset);
    }
  }
  begin.push_back(layout.shard_size());
  KOIOS_REQUIRE(begin.front() == 0, "the first parameter begins at ", begin.front());
}

WeightScaleBuffers::WeightScaleBuffers(Arena& arena, const ShardLayout& layout) {
  constexpr std::string_view kLabel = "scales of weights";
  const std::int64_t count = ScaleRanges(layout).count();
  begin = arena.take<std::int64_t>(kLabel, count + 1);
  amax = arena.take<float>(kLabel, count);
  inverse = arena.take<float>(kLabel, count * kFp8ScalePitch);
}

WeightScales::WeightScales(const ShardLayout& layout, const WeightScaleBuffers& buffers,
                           Ref<const float, 1> masters, Communicator& rows, Communicator& parts,
                           Stream& compute)
    : ranges_(layout),
      buffers_(buffers),
      amax_(buffers.amax),
      masters_(masters),
      rows_(rows),
      parts_(parts),
      compute_(compute) {
  copy(compute, any(buffers_.begin), any(make_ref(ranges_.begin.data(), ranges_.count() + 1)));
}

void WeightScales::find() {
  fill(compute_, buffers_.amax, 0);
  for (std::int64_t r = 0; r < ranges_.count(); ++r) {
    const std::int64_t first = ranges_.begin[static_cast<std::size_t>(r)];
    const std::int64_t size = ranges_.begin[static_cast<std::size_t>(r + 1)] - first;
    raise_amax<float>(compute_, slice(buffers_.amax, r, 1),
                      make_ref(masters_.data + first, std::int64_t{1}, size));
  }
  share();
}

AmaxRanges WeightScales::begin_update() {
  fill(compute_, buffers_.amax, 0);
  return {buffers_.begin, buffers_.amax};
}

void WeightScales::end_update() { share(); }

// As integers: magnitudes have the same order, and NaN is the largest and survives.
void WeightScales::share() {
  const AnyRef bits{buffers_.amax.data, ranges_.count(), DType::int32};
  rows_.all_reduce(bits, ReduceOp::max, compute_);
  parts_.all_reduce(bits, ReduceOp::max, compute_);
  known_ = true;
}

}  // namespace koios
