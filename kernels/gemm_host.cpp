#include "kernels/detail/gemm_host.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "kernels/detail/float_product.hpp"
#include "kernels/detail/host_parallel.hpp"
#include "kernels/fp8.hpp"

namespace koios::detail {
namespace {

constexpr std::int64_t kBlockSize = kCastBlock * kCastBlock;

/// What the workspace is divided into.
struct Buffers {
  float* packed;
  float* block[kCastBlocks];

  explicit Buffers(Ref<std::byte, 1> workspace) : packed(reinterpret_cast<float*>(workspace.data)) {
    for (std::int64_t k = 0; k < kCastBlocks; ++k)
      block[k] = packed + kPackedFloats + k * kBlockSize;
  }
};

/// dst (contiguous rows x columns) = a block of src.
void load_block(float* dst, const Matrix& src, std::int64_t row, std::int64_t column,
                std::int64_t rows, std::int64_t columns) {
  host_parallel_for("gemm_cast_in", rows, [&](std::int64_t i) {
    const std::int64_t offset = (row + i) * src.pitch + column;
    if (src.dtype == DType::float32) {
      std::copy_n(static_cast<const float*>(src.data) + offset, columns, dst + i * columns);
      return;
    }
    const auto widen = [&]<class T>(const T* from) {
      for (std::int64_t j = 0; j < columns; ++j) {
        dst[i * columns + j] = static_cast<float>(from[offset + j]);
      }
    };
    switch (src.dtype) {
      case DType::bfloat16:
        return widen(static_cast<const bf16*>(src.data));
      case DType::float8_e4m3:
        return widen(static_cast<const fp8_e4m3*>(src.data));
      case DType::float8_e5m2:
        return widen(static_cast<const fp8_e5m2*>(src.data));
      default:
        KOIOS_REQUIRE(false, "matrix products of ", to_string(src.dtype));
    }
  });
}

void store_block(const Matrix& dst, const float* src, std::int64_t row, std::int64_t column,
                 std::int64_t rows, std::int64_t columns) {
  host_parallel_for("gemm_cast_out", rows, [&](std::int64_t i) {
    const std::int64_t offset = (row + i) * dst.pitch + column;
    if (dst.dtype == DType::float32) {
      auto* to = static_cast<float*>(const_cast<void*>(dst.data)) + offset;
      std::copy_n(src + i * columns, columns, to);
      return;
    }
    auto* to = static_cast<bf16*>(const_cast<void*>(dst.data)) + offset;
    for (std::int64_t j = 0; j < columns; ++j) to[j] = bf16(src[i * columns + j]);
  });
}

/// op(operand) from element (i, j) on.
ProductOperand part_of(const Gemm::Operand& operand, std::int64_t i, std::int64_t j) {
  const Matrix& m = operand.matrix;
  const std::int64_t offset = operand.transposed ? j * m.pitch + i : i * m.pitch + j;
  return {static_cast<const std::byte*>(m.data) + offset * size_of(m.dtype), m.pitch,
          operand.transposed, m.dtype};
}

/// Casts block (i, j) of op(operand), stored as it lies in memory, into `buffer`.
ProductOperand cast_operand(float* buffer, const Gemm::Operand& operand, std::int64_t i,
                            std::int64_t j, std::int64_t rows, std::int64_t columns) {
  if (operand.transposed) {
    std::swap(i, j);
    std::swap(rows, columns);
  }
  load_block(buffer, operand.matrix, i, j, rows, columns);
  return {buffer, columns, operand.transposed};
}

/// Sums are carried in float32 and rounded once.
void multiply_to_bf16(const Gemm& gemm, std::int64_t depth, const Buffers& buffers) {
  const Matrix& c = gemm.c.matrix;
  float* sum = buffers.block[0];
  for (std::int64_t i = 0; i < c.rows; i += kCastBlock) {
    const std::int64_t rows = std::min(kCastBlock, c.rows - i);
    for (std::int64_t j = 0; j < c.columns; j += kCastBlock) {
      const std::int64_t columns = std::min(kCastBlock, c.columns - j);
      if (gemm.accumulate) load_block(sum, c, i, j, rows, columns);
      float_product({part_of(gemm.a, i, 0), part_of(gemm.b, 0, j), sum, columns, rows, columns,
                     depth, gemm.scale, gemm.accumulate},
                    buffers.packed);
      store_block(c, sum, i, j, rows, columns);
    }
  }
}

/// What element l of row i of an 8-bit operand is to be multiplied by.
float scale_at(const OperandScale& scale, std::int64_t i, std::int64_t l) {
  switch (scale.kind) {
    case Fp8ScaleKind::matrix:
      return scale.data[0];
    case Fp8ScaleKind::row:
      return scale.data[i];
    case Fp8ScaleKind::piece:
      return scale.data[l / kFp8Block * scale.pitch + i];
    case Fp8ScaleKind::square:
      return scale.data[i / kFp8Block * scale.pitch + l / kFp8Block];
  }
  KOIOS_REQUIRE(false, "unknown kind of scale");
}

/// A part of an output, held in float.
struct FloatBlock {
  float* data;
  std::int64_t i, j;  // where it begins in the output
  std::int64_t rows, columns;
};

/// to += from * the scales of the terms from l on.
void add_scaled(const FloatBlock& to, const float* from, const Gemm& gemm, std::int64_t l) {
  host_parallel_for("gemm_scale", to.rows, [&](std::int64_t i) {
    const float row_scale = scale_at(gemm.a.scale, to.i + i, l);
    for (std::int64_t j = 0; j < to.columns; ++j) {
      const float scale = row_scale * scale_at(gemm.b.scale, to.j + j, l);
      to.data[i * to.columns + j] += scale * from[i * to.columns + j];
    }
  });
}

/// 8-bit values are exact in float, and so are their products. Sums are carried in float32 and
/// multiplied by the scales at last, or after every 128 terms where those have scales of their own.
void multiply_8_bit(const Gemm& gemm, std::int64_t depth, const Buffers& buffers) {
  const auto [a, b, sum, out] = buffers.block;
  const bool by_block =
      gemm.a.scale.kind == Fp8ScaleKind::piece || gemm.a.scale.kind == Fp8ScaleKind::square;
  const std::int64_t step = by_block ? kFp8Block : kCastBlock;
  const Matrix& c = gemm.c.matrix;
  for (std::int64_t i = 0; i < c.rows; i += kCastBlock) {
    for (std::int64_t j = 0; j < c.columns; j += kCastBlock) {
      const FloatBlock block{out, i, j, std::min(kCastBlock, c.rows - i),
                             std::min(kCastBlock, c.columns - j)};
      const std::int64_t rows = block.rows;
      const std::int64_t columns = block.columns;
      if (gemm.accumulate) {
        load_block(out, c, i, j, rows, columns);
      } else {
        std::fill_n(out, rows * columns, 0.0F);
      }
      for (std::int64_t l = 0; l < depth; l += step) {
        const std::int64_t n = std::min(step, depth - l);
        float_product(
            {cast_operand(a, gemm.a, i, l, rows, n), cast_operand(b, gemm.b, l, j, n, columns), sum,
             columns, rows, columns, n, 1.0F, !by_block && l > 0},
            buffers.packed);
        if (by_block || l + n == depth) add_scaled(block, sum, gemm, l);
      }
      store_block(c, out, i, j, rows, columns);
    }
  }
}

}  // namespace

void gemm_host(const Gemm& gemm, Ref<std::byte, 1> workspace) {
  KOIOS_REQUIRE(gemm.batch == 1, "batched products are for CUDA");
  const Matrix& a = gemm.a.matrix;
  const Matrix& c = gemm.c.matrix;
  const std::int64_t depth = gemm.a.transposed ? a.rows : a.columns;
  const Buffers buffers(workspace);
  if (size_of(a.dtype) == 1) {
    KOIOS_REQUIRE(!gemm.a.transposed && gemm.b.transposed && gemm.scale == 1,
                  "an 8-bit product of this form");
    multiply_8_bit(gemm, depth, buffers);
  } else if (c.dtype == DType::float32) {
    auto* data = static_cast<float*>(const_cast<void*>(c.data));
    float_product({part_of(gemm.a, 0, 0), part_of(gemm.b, 0, 0), data, c.pitch, c.rows, c.columns,
                   depth, gemm.scale, gemm.accumulate},
                  buffers.packed);
  } else {
    multiply_to_bf16(gemm, depth, buffers);
  }
}

}  // namespace koios::detail
