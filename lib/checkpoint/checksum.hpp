// The checksum of docs/checkpoints.md: a sum over elements, so that it does not depend on the
// split.
#pragma once

#include <cstdint>

#include "core/random.hpp"

namespace koios {

/// Of `count` elements whose place in the whole array starts at `first`; Bits is their unsigned
/// integer type. Sums of parts add up modulo 2^64.
template <class Bits>
std::uint64_t checksum(const Bits* bits, std::int64_t first, std::int64_t count) {
  constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15ULL;
  const std::uint64_t start = (static_cast<std::uint64_t>(first) + 1) * kStep;
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    sum += mix64(start + static_cast<std::uint64_t>(i) * kStep + bits[i]);
  }
  return sum;
}

/// The same for elements of element_size 2, 4 or 8 bytes.
std::uint64_t checksum(const void* elements, std::int64_t element_size, std::int64_t first,
                       std::int64_t count);

}  // namespace koios
