// Matrix products of the host backend.
#pragma once

#include "core/ref.hpp"
#include "kernels/detail/float_product.hpp"
#include "kernels/detail/math_impl.hpp"

namespace koios::detail {

/// Side and number of the square blocks in which narrower operands and outputs are held as float.
inline constexpr std::int64_t kCastBlock = 512;
inline constexpr std::int64_t kCastBlocks = 4;  // of an 8-bit product: a, b, their product, the sum
inline constexpr std::int64_t kHostGemmBytes =
    (kPackedFloats + kCastBlocks * kCastBlock * kCastBlock) * std::int64_t{sizeof(float)};

/// workspace: kHostGemmBytes. Sums are float32; 8-bit types go through float blocks, being there to
/// be right, not fast.
void gemm_host(const Gemm& gemm, Ref<std::byte, 1> workspace);

}  // namespace koios::detail
