// The arithmetic of a reduce-scatter over MPI: combines the ranks' contributions in rank order, so
// that the result depends on nothing else. bfloat16 is summed in float and rounded once.
#pragma once

#include <cstdint>
#include <span>

#include "comm/communicator.hpp"
#include "core/ref.hpp"

namespace koios {

/// mine = parts[0] op parts[1] op ...; each part holds mine.count elements of mine.dtype.
/// A NaN in any part reaches the result, also through max.
void combine_in_rank_order(AnyRef mine, std::span<const void* const> parts, ReduceOp op);

}  // namespace koios
