// The checksum of docs/checkpoints.md: a sum over elements, so that it does not depend on the
// split.
#pragma once

#include <cstdint>

#include "core/slice.hpp"

namespace koios {

/// Of `values`, of 2, 4 or 8 bytes each, which are these elements of the whole array. Sums of parts
/// add up modulo 2^64.
std::uint64_t checksum(const void* values, std::int64_t element_size, const Range& elements);

}  // namespace koios
