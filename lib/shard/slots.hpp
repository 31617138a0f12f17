// Which buffer a unit's full array lives in. Blocks are alike and share a few: the k-th block of a
// stage uses buffer k mod count, so with one more than are fetched ahead a gather never waits for
// the block that computes. Embedding and head have one each.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "core/ref.hpp"
#include "runtime/arena.hpp"
#include "shard/layout.hpp"

namespace koios {

/// The buffer of each unit, by the unit's number; -1 for units of other stages. block_buffers: how
/// many the blocks share.
std::vector<int> slots_of_units(const ShardLayout& layout, int block_buffers);

template <class T>
struct UnitSlots {
  std::vector<int> slot_of_unit;
  std::vector<Ref<T, 1>> buffer;

  /// size: elements that a unit needs.
  UnitSlots(Arena& arena, std::string_view label, const ShardLayout& layout, int block_buffers,
            const std::function<std::int64_t(const UnitLayout&)>& size = &UnitSlots::full_size);
  static std::int64_t full_size(const UnitLayout& unit) { return unit.full_size; }

  std::size_t slot(int unit) const {
    return static_cast<std::size_t>(slot_of_unit[static_cast<std::size_t>(unit)]);
  }
  Ref<T, 1> of(int unit) const { return buffer[slot(unit)]; }
};

}  // namespace koios
