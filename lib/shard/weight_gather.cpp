#include "shard/weight_gather.hpp"

#include <type_traits>

#include "core/error.hpp"
#include "core/unwinding.hpp"
#include "kernels/elementwise.hpp"

namespace koios {

template <class T>
GatherBuffers<T>::GatherBuffers(Arena& arena, const ShardLayout& layout,
                                const GatherOptions& options) {
  const bool masters_serve = std::is_same_v<T, float> && layout.ranks() == 1;
  if (masters_serve) return;
  const int blocks = static_cast<int>(layout.units().size());
  slots.emplace(arena, "gathered weights", layout,
                options.reshard_after_forward ? options.prefetch_blocks + 1 : blocks);
}

template <class T>
WeightGather<T>::WeightGather(const ShardLayout& layout, GatherBuffers<T> buffers,
                              Ref<const float, 1> masters, Communicator& group, Stream& compute,
                              Stream& gather, ExposedWait& exposed)
    : layout_(layout),
      buffers_(std::move(buffers)),
      masters_(masters),
      group_(group),
      compute_(compute),
      stream_(gather),
      exposed_(exposed),
      updated_(compute.backend()) {
  if (!buffers_.slots) return;
  for (std::size_t i = 0; i < buffers_.slots->buffer.size(); ++i) {
    slots_.push_back({-1, false, Event(compute.backend()), Event(compute.backend())});
  }
}

template <class T>
typename WeightGather<T>::Slot& WeightGather<T>::slot_of(int unit) {
  return slots_[static_cast<std::size_t>(
      buffers_.slots->slot_of_unit[static_cast<std::size_t>(unit)])];
}

template <class T>
void WeightGather<T>::prefetch(int unit) {
  if (!buffers_.slots || unit < 0 || unit >= static_cast<int>(layout_.units().size())) return;
  Slot& slot = slot_of(unit);
  if (slot.unit == unit || slot.leased) return;
  gather(unit, slot);
}

template <class T>
void WeightGather<T>::gather(int unit, Slot& slot) {
  const Ref<T, 1> full = buffers_.slots->of(unit);
  const UnitLayout& unit_layout = layout_.unit(unit);
  stream_.wait(slot.released);
  stream_.wait(updated_);
  for (const ParameterLayout& p : unit_layout.parameters) {
    const std::int64_t mine = p.full_offset + layout_.rank() * p.part_size();
    cast(stream_, slice(full, mine, p.part_size()), slice(masters_, p.shard_offset, p.part_size()));
  }
  {
    GroupCall call(group_);
    for (const ParameterLayout& p : unit_layout.parameters) {
      group_.all_gather(any(slice(full, p.full_offset, p.part_size() * layout_.ranks())), stream_);
    }
  }
  slot.ready.record(stream_);
  slot.unit = unit;
}

template <class T>
typename WeightGather<T>::Lease WeightGather<T>::acquire(int unit) {
  if (buffers_.slots) {
    prefetch(unit);
    Slot& slot = slot_of(unit);
    KOIOS_REQUIRE(slot.unit == unit, "buffer of unit ", unit, " is leased to ", slot.unit);
    exposed_.wait(slot.ready);
    slot.leased = true;
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
  if (owner_->buffers_.slots) return {unit, owner_->buffers_.slots->of(unit_).data};
  if constexpr (std::is_same_v<T, float>) {
    return {unit, owner_->masters_.data + unit.shard_offset};
  } else {
    KOIOS_REQUIRE(false, "no gather buffers");
  }
}

template <class T>
WeightGather<T>::Lease::~Lease() noexcept(false) {
  if (owner_ == nullptr || !owner_->buffers_.slots || is_unwinding()) return;
  Slot& slot = owner_->slot_of(unit_);
  slot.released.record(owner_->compute_);
  slot.leased = false;
}

template struct GatherBuffers<float>;
template struct GatherBuffers<bf16>;
template class WeightGather<float>;
template class WeightGather<bf16>;

}  // namespace koios
