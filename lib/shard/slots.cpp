#include "shard/slots.hpp"

#include <algorithm>

namespace koios {

template <class T>
UnitSlots<T>::UnitSlots(Arena& arena, std::string_view label, const ShardLayout& layout,
                        int block_buffers) {
  const int units = static_cast<int>(layout.units().size());
  const int shared = std::min(block_buffers, std::max(0, units - 2));
  const auto add = [&](int unit) {
    buffer.push_back(arena.take<T>(label, layout.unit(unit).full_size));
    return static_cast<int>(buffer.size()) - 1;
  };
  for (int unit = 0; unit < units; ++unit) {
    const bool is_block = unit > 0 && unit + 1 < units;
    const bool reuse = is_block && unit > shared;
    slot_of_unit.push_back(reuse ? slot_of_unit[static_cast<std::size_t>(unit - shared)]
                                 : add(unit));
    // Padding rows are zeroed once and never written, so units of a buffer must agree on them.
    KOIOS_REQUIRE(of(unit).size() == layout.unit(unit).full_size, "blocks of different shapes");
  }
}

template struct UnitSlots<float>;
template struct UnitSlots<bf16>;

}  // namespace koios
