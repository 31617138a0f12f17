// This rank's float32 master parameters and how they start: the same numbers on every mesh,
// because element i of a parameter depends on (seed, name, i) alone.
#pragma once

#include <cstdint>

#include "core/ref.hpp"
#include "runtime/arena.hpp"
#include "runtime/stream.hpp"
#include "shard/layout.hpp"

namespace koios {

/// Masters and the optimizer's moments, all in the flat shard layout.
struct ParameterBuffers {
  Ref<float, 1> master;
  Ref<float, 1> exp_avg;
  Ref<float, 1> exp_avg_sq;

  ParameterBuffers(Arena& arena, const ShardLayout& layout);
};

/// Fills this rank's rows of every parameter; padding stays zero.
void initialize_parameters(Stream& stream, const ShardLayout& layout, Ref<float, 1> masters,
                           std::uint64_t seed);

}  // namespace koios
