#include "shard/weight_gather.hpp"

#include <type_traits>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/unwinding.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/fp8.hpp"
#include "runtime/region.hpp"

namespace koios {

bool keeps_cast(DType compute, const GatherOptions& options) {
  return options.keep_cast && !options.narrow && compute != DType::float32;
}

bool must_gather(DType compute, const ShardLayout& layout, const GatherOptions& options) {
  return compute != DType::float32 || layout.ranks() > 1 || options.narrow.has_value();
}

std::int64_t gathered_bytes(const UnitLayout& unit, DType compute, const ShardLayout& layout,
                            const GatherOptions& options, unsigned values) {
  std::int64_t bytes = 0;
  for (const ParameterLayout& p : unit.parameters) {
    const bool is_narrow = options.narrow && p.spec.scale_group >= 0;
    bytes += p.part_size() * layout.ranks() *
             (is_narrow ? narrow_values(*options.narrow, values) : size_of(compute));
  }
  return bytes;
}

int gather_block_buffers(DType compute, const ShardLayout& layout, const GatherOptions& options) {
  const bool is_in_place = keeps_cast(compute, options) && layout.ranks() == 1;
  return options.reshard_after_forward && !is_in_place ? options.prefetch_blocks + 1
                                                       : narrow<int>(std::ssize(layout.units()));
}

template <class T>
GatherBuffers<T>::GatherBuffers(Arena& arena, const ShardLayout& layout,
                                const GatherOptions& options) {
  if (!must_gather(dtype_of<T>, layout, options)) return;
  if (keeps_cast(dtype_of<T>, options)) {
    cast = arena.take<T>("cast parameters", layout.shard_size());
    if (layout.ranks() == 1) return;
  }
  const auto size = [&](const UnitLayout& unit) {
    if (!options.narrow) return unit.full_size;
    const std::int64_t narrow = narrow_elements(unit);
    return unit.full_size - narrow + div_exact(narrow * narrow_values(*options.narrow), sizeof(T));
  };
  slots.emplace(arena, "gathered weights", layout,
                gather_block_buffers(dtype_of<T>, layout, options), size);
  if (options.narrow) scales.emplace(arena, layout, *options.narrow);
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
      is_cast_(layout.units().size(), false),
      exposed_(exposed),
      updated_(compute.backend()) {
  if (!buffers_.slots && !buffers_.cast) return;
  const std::size_t count = buffers_.slots ? buffers_.slots->buffer.size() : layout.units().size();
  for (std::size_t i = 0; i < count; ++i) {
    slots_.push_back({-1, Event(compute.backend()), Event(compute.backend())});
  }
}

template <class T>
void WeightGather<T>::cast_mine(int unit, int parameter, unsigned values,
                                std::vector<Gathered>& parts) {
  const UnitLayout& of_unit = layout_.unit(unit);
  const ParameterLayout& p = of_unit.parameters[static_cast<std::size_t>(parameter)];
  const std::int64_t size = p.part_size() * layout_.ranks();
  const std::int64_t first = layout_.rank() * p.part_size();
  if (scales_ != nullptr && p.spec.scale_group >= 0) {
    for (fp8_e4m3* cast : scales_->cast_mine(stream_, unit, parameter, narrow_part(unit), values)) {
      parts.push_back({any(make_ref(cast + first, p.part_size())), any(make_ref(cast, size))});
    }
    return;
  }
  T* wide = wide_part(unit) + (p.full_offset - narrow_end(of_unit));
  const auto masters = slice(masters_, p.in_shard);
  AnyRef mine = any(make_ref(wide + first, p.part_size()));
  if (buffers_.cast) {
    mine = any(slice(*buffers_.cast, p.in_shard));
  } else {
    cast(stream_, make_ref(wide + first, p.part_size()), masters);
  }
  parts.push_back({mine, any(make_ref(wide, size))});
}

template <class T>
void WeightGather<T>::refresh_cast(int unit) {
  if (!buffers_.cast || is_cast_[static_cast<std::size_t>(unit)]) return;
  const Range& in_shard = layout_.unit(unit).in_shard;
  cast(stream_, slice(*buffers_.cast, in_shard), slice(masters_, in_shard));
  is_cast_[static_cast<std::size_t>(unit)] = true;
}

template <class T>
void WeightGather<T>::gather(int unit, unsigned values) {
  Slot& slot = slot_of(unit);
  slot.unit = unit;
  if (!buffers_.slots && is_cast_[static_cast<std::size_t>(unit)]) return;
  const UnitLayout& unit_layout = layout_.unit(unit);
  stream_.wait(slot.released);
  stream_.wait(updated_);
  const std::int64_t size =
      buffers_.slots ? buffers_.slots->of(unit).size() : unit_layout.in_shard.count;
  const Region region(stream_, unit_layout.name.c_str(),
                      {.bytes = static_cast<double>(size * size_of(dtype_of<T>))});
  refresh_cast(unit);
  if (buffers_.slots) {
    std::vector<Gathered> parts;
    const int parameters = koios::narrow<int>(std::ssize(unit_layout.parameters));
    for (int p = 0; p < parameters; ++p) cast_mine(unit, p, values, parts);
    GroupCall call(group_);
    for (const auto& [mine, full] : parts) group_.all_gather(mine, full, stream_);
  }
  slot.ready.record(stream_);
}

template <class T>
typename WeightGather<T>::Lease WeightGather<T>::acquire(int unit) {
  if (!slots_.empty()) {
    const Slot& slot = slot_of(unit);
    KOIOS_REQUIRE(slot.unit == unit, "the buffer of unit ", unit, " holds ", slot.unit);
    exposed_.wait(slot.ready);
  }
  return Lease(this, unit);
}

template <class T>
void WeightGather<T>::invalidate(bool is_cast) {
  updated_.record(compute_);
  if (!is_cast) is_cast_.assign(is_cast_.size(), false);
  for (Slot& slot : slots_) slot.unit = -1;
}

template <class T>
UnitView<const T> WeightGather<T>::Lease::view() const {
  const UnitLayout& unit = owner_->layout_.unit(unit_);
  if (owner_->buffers_.slots) {
    T* wide = owner_->wide_part(unit_);
    const std::int64_t narrow = owner_->narrow_end(unit);
    if (narrow == 0) return {unit, wide};
    return {unit, wide, narrow, owner_->scales_->view(unit_, owner_->narrow_part(unit_))};
  }
  if (owner_->buffers_.cast) return {unit, owner_->buffers_.cast->data + unit.in_shard.first};
  if constexpr (std::is_same_v<T, float>) {
    return {unit, owner_->masters_.data + unit.in_shard.first};
  } else {
    KOIOS_REQUIRE(false, "no gather buffers");
  }
}

template <class T>
WeightGather<T>::Lease::~Lease() noexcept(false) {
  if (owner_ == nullptr || owner_->slots_.empty() || is_unwinding()) return;
  owner_->slot_of(unit_).released.record(owner_->compute_);
}

template struct GatherBuffers<float>;
template struct GatherBuffers<bf16>;
template class WeightGather<float>;
template class WeightGather<bf16>;

}  // namespace koios
