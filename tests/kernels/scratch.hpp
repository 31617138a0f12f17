// Bytes in a backend's memory for what wants a workspace.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/integers.hpp"
#include "runtime/arena.hpp"

namespace koios::test {

class Scratch {
 public:
  Scratch(Backend backend, std::int64_t bytes)
      : arena_(backend, plan(round_up(bytes + 1, Arena::kAlignment))),
        ref_(arena_.take<std::byte>("test", bytes)) {}
  Ref<std::byte, 1> ref() const { return ref_; }

 private:
  static MemoryPlan plan(std::int64_t bytes) { return {{{"test", bytes}}, bytes}; }

  Arena arena_;
  Ref<std::byte, 1> ref_;
};

}  // namespace koios::test
