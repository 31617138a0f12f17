// The arithmetic of a reduce-scatter whose parts have arrived.
#pragma once

#include <cuda_runtime_api.h>

#include <span>

#include "core/ref.hpp"

namespace koios {

/// As many ranks as one node has GPUs, and then some.
inline constexpr int kMaxParts = 16;

/// mine = the sum of the parts, float32 or bfloat16, in float32 and in their order.
void sum_parts(cudaStream_t stream, AnyRef mine, std::span<const void* const> parts);

}  // namespace koios
