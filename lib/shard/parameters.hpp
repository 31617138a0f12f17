// This rank's float32 master parameters and how they start: the same numbers on every mesh,
// because element i of a parameter depends on (seed, name, i) alone. So does the rounding of
// moments that are kept in bfloat16, and on the step.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ref.hpp"
#include "kernels/adamw.hpp"
#include "runtime/arena.hpp"
#include "runtime/stream.hpp"
#include "shard/layout.hpp"

namespace koios {

/// Masters and the optimizer's moments, all in the flat shard layout.
struct ParameterBuffers {
  Ref<float, 1> master;
  AnyRef exp_avg;  // both float32, or both bfloat16
  AnyRef exp_avg_sq;
  Ref<ElementPlace, 1> places;  // element_places() for moments in bfloat16, else empty

  ParameterBuffers(Arena& arena, const ShardLayout& layout, DType moments);
};

/// Where in the flat shard which elements of the parameters are, in the order of the shard.
std::vector<ElementPlace> element_places(const ShardLayout& layout);

/// Fills this rank's rows of every parameter; padding stays zero.
void initialize_parameters(Stream& stream, const ShardLayout& layout, Ref<float, 1> masters,
                           std::uint64_t seed);

}  // namespace koios
