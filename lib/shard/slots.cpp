#include "shard/slots.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace koios {

std::vector<int> slots_of_units(const ShardLayout& layout, int block_buffers) {
  std::vector<int> slots;
  std::vector<int> of_blocks;
  int next = 0;
  for (const UnitLayout& unit : layout.units()) {
    if (!unit.is_held) {
      slots.push_back(-1);
    } else if (unit.role != UnitRole::block) {
      slots.push_back(next++);
    } else {
      const auto count = static_cast<int>(of_blocks.size());
      of_blocks.push_back(count < block_buffers
                              ? next++
                              : of_blocks[static_cast<std::size_t>(count - block_buffers)]);
      slots.push_back(of_blocks.back());
    }
  }
  return slots;
}

template <class T>
UnitSlots<T>::UnitSlots(Arena& arena, std::string_view label, const ShardLayout& layout,
                        int block_buffers,
                        const std::function<std::int64_t(const UnitLayout&)>& size_of_unit)
    : slot_of_unit(slots_of_units(layout, block_buffers)) {
  // Where blocks differ, as the 8-bit ones among others do, a buffer is for the largest.
  std::vector<std::int64_t> sizes;
  for (int unit = 0; unit < static_cast<int>(slot_of_unit.size()); ++unit) {
    if (!layout.unit(unit).is_held) continue;
    if (slot(unit) == sizes.size()) sizes.push_back(0);
    sizes[slot(unit)] = std::max(sizes[slot(unit)], size_of_unit(layout.unit(unit)));
  }
  for (const std::int64_t size : sizes) buffer.push_back(arena.take<T>(label, size));
}

template struct UnitSlots<float>;
template struct UnitSlots<bf16>;

}  // namespace koios
