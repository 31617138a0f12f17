// Products of matrices on the host: float32 sums of whatever type the operands are.
#pragma once

#include <cstdint>

#include "kernels/detail/math_impl.hpp"

namespace koios::detail {

/// op(matrix): element (i, j) lies at [i * pitch + j] of the memory, or with i and j exchanged.
struct ProductOperand {
  const void* data;
  std::int64_t pitch;
  bool transposed;
  DType dtype = DType::float32;  // or bfloat16
};

struct FloatProduct {
  ProductOperand a, b;
  float* c;
  std::int64_t c_pitch;
  std::int64_t rows, columns, depth;
  float scale;
  bool accumulate;
};

/// Memory that a product needs, whatever its size.
inline constexpr std::int64_t kPackedFloats = std::int64_t{1} << 20;

/// c (=|+=) scale * op(a) op(b). Each element is summed in one order that depends on the depth
/// alone, so neither the number of threads nor the part of a matrix that c is changes a bit.
/// packed: kPackedFloats, at a multiple of 64 bytes.
void float_product(const FloatProduct& product, float* packed);

}  // namespace koios::detail
