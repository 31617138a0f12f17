#include "shard/weight_gather.hpp"

#include <type_traits>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/unwinding.hpp"
#include "kernels/elementwise.hpp"
#include "runtime/region.hpp"

namespace koios {

bool must_gather(DType compute, const ShardLayout& layout) {
  return compute != DType::float32 || layout.ranks() > 1;
}

int gather_block_buffers(const ShardLayout& layout, const GatherOptions& options) {
  return options.reshard_after_forward ? options.prefetch_blocks + 1
                                       : narrow<int>(std::ssize(layout.units()));
}

template <class T>
GatherBuffers<T>::GatherBuffers(Arena& arena, const ShardLayout& layout,
                                const GatherOptions& options) {
  if (!must_gather(dtype_of<T>, layout)) return;
  slots.emplace(arena, "gathered weights", layout, gather_block_buffers(layout, options));
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
    slots_.push_back({-1, Event(compute.backend()), Event(compute.backend())});
  }
}

template <class T>
void WeightGather<T>::gather(int unit) {
  Slot& slot = slot_of(unit);
  const Ref<T, 1> full = buffers_.slots->of(unit);
  const UnitLayout& unit_layout = layout_.unit(unit);
  stream_.wait(slot.released);
  stream_.wait(updated_);
  const Region region(stream_, unit_layout.name.c_str(),
                      {.bytes = static_cast<double>(full.size() * size_of(dtype_of<T>))});
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
  owner_->slot_of(unit_).released.record(owner_->compute_);
}

template struct GatherBuffers<float>;
template struct GatherBuffers<bf16>;
template class WeightGather<float>;
template class WeightGather<bf16>;

}  // namespace koios
