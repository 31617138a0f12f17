// Which buffer a unit's full array lives in. The first and the last unit (embedding, head) have
// one each; the blocks between share a few, block l using buffer l mod count: with one more than
// are fetched ahead, a gather never waits for the block that computes.
#pragma once

#include <vector>

#include "core/ref.hpp"
#include "runtime/arena.hpp"
#include "shard/layout.hpp"

namespace koios {

template <class T>
struct UnitSlots {
  std::vector<Ref<T, 1>> buffer;
  std::vector<int> slot_of_unit;

  /// block_buffers: how many the units between the first and the last share.
  UnitSlots(Arena& arena, std::string_view label, const ShardLayout& layout, int block_buffers);

  Ref<T, 1> of(int unit) const {
    return buffer[static_cast<std::size_t>(slot_of_unit[static_cast<std::size_t>(unit)])];
  }
};

}  // namespace koios
