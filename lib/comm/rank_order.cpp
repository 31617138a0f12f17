#include "comm/rank_order.hpp"

#include <algorithm>
#include <array>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {
namespace {

constexpr std::int64_t kBlock = 2048;              // its sums stay in the L1 cache
constexpr std::int64_t kParallelFrom = 64 * 1024;  // below, threads cost more than they gain

struct Sum {
  template <class A>
  A operator()(A a, A b) const {
    return a + b;
  }
};

struct Max {
  template <class A>
  A operator()(A a, A b) const {
    return a > b || a != a ? a : b;
  }
};

/// T: element type, A: the type sums are formed in.
template <class T, class A, class Op>
void combine(T* mine, std::span<const void* const> parts, std::int64_t count, Op op) {
  const std::int64_t blocks = ceil_div(count, kBlock);
#pragma omp parallel for schedule(static) if (count >= kParallelFrom)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t begin = block * kBlock;
    const std::int64_t n = std::min(kBlock, count - begin);
    std::array<A, kBlock> sum;
    const T* first = static_cast<const T*>(parts[0]) + begin;
    for (std::int64_t i = 0; i < n; ++i)
      sum[static_cast<std::size_t>(i)] = static_cast<A>(first[i]);
    for (const void* part : parts.subspan(1)) {
      const T* next = static_cast<const T*>(part) + begin;
      for (std::int64_t i = 0; i < n; ++i) {
        auto& s = sum[static_cast<std::size_t>(i)];
        s = op(s, static_cast<A>(next[i]));
      }
    }
    for (std::int64_t i = 0; i < n; ++i) {
      mine[begin + i] = static_cast<T>(sum[static_cast<std::size_t>(i)]);
    }
  }
}

template <class T, class A = T>
void combine(AnyRef mine, std::span<const void* const> parts, ReduceOp op) {
  auto* out = static_cast<T*>(mine.data);
  if (op == ReduceOp::sum) return combine<T, A>(out, parts, mine.count, Sum{});
  combine<T, A>(out, parts, mine.count, Max{});
}

}  // namespace

void combine_in_rank_order(AnyRef mine, std::span<const void* const> parts, ReduceOp op) {
  switch (mine.dtype) {
    case DType::float32:
      return combine<float>(mine, parts, op);
    case DType::bfloat16:
      return combine<bf16, float>(mine, parts, op);
    case DType::float64:
      return combine<double>(mine, parts, op);
    case DType::int32:
      return combine<std::int32_t>(mine, parts, op);
    case DType::int64:
      return combine<std::int64_t>(mine, parts, op);
    default:
      KOIOS_REQUIRE(false, "a sum or maximum of ", to_string(mine.dtype));
  }
}

}  // namespace koios
