// One allocation per rank and backend, planned before it is made. The code that lays out
// parameters, gradients, activations and buffers runs twice: once on a planner, which only adds
// up, and once on the real arena, which must end at exactly the same byte. So the printed plan is
// the memory that is used, and a plan for any mesh can be made without a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/ref.hpp"
#include "runtime/backend.hpp"

namespace koios {

/// What the memory is for, one line of the printed table per label.
struct MemoryPlan {
  struct Line {
    std::string label;
    std::int64_t bytes = 0;
  };
  std::vector<Line> lines;  // in the order of first use
  std::int64_t total_bytes = 0;
};

class Arena {
 public:
  /// Every array starts at a multiple of this: one cache line of the host, one transaction of CUDA.
  static constexpr std::int64_t kAlignment = 256;

  /// Counts and hands out null references.
  static Arena planner(Backend backend);
  /// Allocates plan.total_bytes, zeroed. Throws UserError if the device or host has less; remedy:
  /// what it says can be done.
  Arena(Backend backend, const MemoryPlan& plan, const std::string& remedy = "use more ranks");
  Arena(Arena&&) noexcept;
  Arena& operator=(Arena&&) noexcept;
  ~Arena();

  Backend backend() const { return backend_; }
  bool is_planner() const { return base_ == nullptr; }
  /// All of it; empty of a planner.
  std::span<std::byte> memory() const {
    return {base_, static_cast<std::size_t>(base_ == nullptr ? 0 : capacity_)};
  }
  /// What was taken so far.
  const MemoryPlan& taken() const { return taken_; }

  /// An array of the given extents, contiguous, counted under `label`.
  template <class T, class... Extents>
  auto take(std::string_view label, Extents... extents) {
    auto ref = make_ref(static_cast<T*>(nullptr), extents...);
    ref.data = static_cast<T*>(take_bytes(label, ref.size() * std::int64_t{sizeof(T)}));
    return ref;
  }
  /// The same of a run-time type.
  AnyRef take(DType dtype, std::string_view label, std::int64_t count) {
    return {take_bytes(label, count * size_of(dtype)), count, dtype};
  }
  void* take_bytes(std::string_view label, std::int64_t bytes);

 private:
  explicit Arena(Backend backend) : backend_(backend) {}

  Backend backend_;
  std::byte* base_ = nullptr;
  std::int64_t capacity_ = 0;
  MemoryPlan taken_;
};

}  // namespace koios
