#include "shard/weight_gather.hpp"

#include <type_traits>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/unwinding.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/fp8.hpp"
#include "runtime/region.hpp"

namespace koios {

bool must_gather(DType compute, const ShardLayout& layout, const GatherOptions& options) {
  return compute != DType::float32 || layout.ranks() > 1 || options.narrow;
}

std::int64_t gathered_bytes(const UnitLayout& unit, DType compute, const ShardLayout& layout,
                            const GatherOptions& options) {
  std::int64_t bytes = 0;
  for (const ParameterLayout& p : unit.parameters) {
    const bool is_narrow = options.narrow && p.spec.scale_group >= 0;
    bytes += p.part_size() * layout.ranks() * (is_narrow ? 1 : size_of(compute));
  }
  return bytes;
}

int gather_block_buffers(const ShardLayout& layout, const GatherOptions& options) {
  return options.reshard_after_forward ? options.prefetch_blocks + 1
                                       : narrow<int>(std::ssize(layout.units()));
}

template <class T>
GatherBuffers<T>::GatherBuffers(Arena& arena, const ShardLayout& layout,
                                const GatherOptions& options) {
  if (!must_gather(dtype_of<T>, layout, options)) return;
  const auto size = [&](const UnitLayout& unit) {
    const std::int64_t narrow = options.narrow ? narrow_elements(unit) : 0;
    return unit.full_size - narrow + div_exact(narrow, sizeof(T));
  };
  slots.emplace(arena, "gathered weights", layout, gather_block_buffers(layout, options), size);
  if (options.narrow) scales.emplace(arena, layout);
}

template <class T>
WeightGather<T>::WeightGather(const ShardLayout& layout, GatherBuffers<T> buffers,
                              Ref<const float, 1> masters, WeightScales* scales,
                              Communicator& group, Stream& compute, Stream& gather,
                              ExposedWait& exposed)
    : layout_(layout),
      buffers_(std::move(buffers)),
      masters_(masters),
      scales_(scales),
      group_(group),
      compute_(compute),
      stream_(gather),
      exposed_(exposed),
      updated_(compute.backend()) {
  if (!buffers_.slots) return;
  for (std::size_t i = 0; i < buffers_.slots->buffer.size(); ++i) {
    slots_.push_back({-1, Event(compute.backend()), Event(compute.backend())});
  }
}

template <class T>
AnyRef WeightGather<T>::cast_mine(int unit, const ParameterLayout& p) {
  const std::int64_t mine = layout_.rank() * p.part_size();
  const std::int64_t size = p.part_size() * layout_.ranks();
  const auto masters = slice(masters_, p.shard_offset, p.part_size());
  if (scales_ != nullptr && p.spec.scale_group >= 0) {
    fp8_e4m3* full = narrow_part(unit) + p.full_offset;
    cast_to_fp8<fp8_e4m3, float>(
        stream_, make_ref(full + mine, std::int64_t{1}, p.part_size()),
        make_ref(masters.data, std::int64_t{1}, p.part_size()),
        {scales_->amax(unit, p.spec.scale_group), scales_->inverse(unit, p.spec.scale_group)}, {});
    return any(make_ref(full, size));
  }
  T* full = wide_part(unit) + (p.full_offset - narrow_end(layout_.unit(unit)));
  cast(stream_, make_ref(full + mine, p.part_size()), masters);
  return any(make_ref(full, size));
}

template <class T>
void WeightGather<T>::gather(int unit) {
  Slot& slot = slot_of(unit);
  const UnitLayout& unit_layout = layout_.unit(unit);
  stream_.wait(slot.released);
  stream_.wait(updated_);
  const Ref<T, 1> buffer = buffers_.slots->of(unit);
  const Region region(stream_, unit_layout.name.c_str(),
                      {.bytes = static_cast<double>(buffer.size() * size_of(dtype_of<T>))});
  std::vector<AnyRef> full;
  for (const ParameterLayout& p : unit_layout.parameters) full.push_back(cast_mine(unit, p));
  {
    GroupCall call(group_);
    for (const AnyRef& parameter : full) group_.all_gather(parameter, stream_);
  }
  slot.ready.record(stream_);
  slot.unit = unit;
}

template <class T>
typename WeightGather<T>::Lease WeightGather<T>::acquire(int unit) {
  if (buffers_.slots) {
    const Slot& slot = slot_of(unit);
    KOIOS_REQUIRE(slot.unit == unit, "the buffer of unit ", unit, " holds ", slot.unit);
    exposed_.wait(slot.ready);
  }
  return Lease(this, unit);
}

template <class T>
void WeightGather<T>::invalidate() {
  updated_.record(compute_);
  for (Slot& slot : slots_) slot.unit = -1;
}

template <class T>
UnitView<const T> WeightGather<T>::Lease::view() const {
  const UnitLayout& unit = owner_->layout_.unit(unit_);
  if (owner_->buffers_.slots) {
    T* wide = owner_->wide_part(unit_);
    const std::int64_t narrow = owner_->narrow_end(unit);
    if (narrow == 0) return {unit, wide};
    std::vector<Ref<const float, 1>> inverse_scales;
    for (const ParameterLayout& p : unit.parameters) {
      if (p.spec.scale_group == std::ssize(inverse_scales)) {
        inverse_scales.push_back(owner_->scales_->inverse(unit_, p.spec.scale_group));
      }
    }
    return {unit, wide, narrow, owner_->narrow_part(unit_), std::move(inverse_scales)};
  }
  if constexpr (std::is_same_v<T, float>) {
    return {unit, owner_->masters_.data + unit.shard_offset};
  } else {
    KOIOS_REQUIRE(false, "no gather buffers");
  }
}

template <class T>
WeightGather<T>::Lease::~Lease() noexcept(false) {
  if (owner_ == nullptr || !owner_->buffers_.slots || is_unwinding()) return;
  owner_->slot_of(unit_).released.record(owner_->compute_);
}

template struct GatherBuffers<float>;
template struct GatherBuffers<bf16>;
template class WeightGather<float>;
template class WeightGather<bf16>;

}  // namespace koios
