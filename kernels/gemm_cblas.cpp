#include "kernels/detail/gemm_cblas.hpp"

#include <cblas.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/error.hpp"
#include "core/free_memory.hpp"
#include "core/integers.hpp"
#include "kernels/detail/host_parallel.hpp"
#include "kernels/fp8.hpp"

// OpenBLAS has these, other libraries do not (those are sequential inside a parallel region).
extern "C" {
__attribute__((weak)) void openblas_set_num_threads(int);
__attribute__((weak)) char* openblas_get_corename();
__attribute__((weak)) void gotoblas_dynamic_init();
__attribute__((weak)) void gotoblas_dynamic_quit();
__attribute__((weak)) void* blas_memory_alloc(int);
__attribute__((weak)) void blas_memory_free(void*);
}

namespace koios::detail {
namespace {

/// A float matrix, element (i, j) of which lies at data[i * pitch + j], or with i and j exchanged.
struct FloatOperand {
  const float* data;
  std::int64_t pitch;
  bool transposed;

  const float* at(std::int64_t i, std::int64_t j) const {
    return data + (transposed ? j * pitch + i : i * pitch + j);
  }
};

struct FloatProduct {
  FloatOperand a, b;
  float* c;
  std::int64_t c_pitch;
  std::int64_t rows, columns, depth;
  float alpha, beta;
};

/// Rows [i0, i1) and columns [j0, j1) of the product, on the calling thread.
void multiply_part(const FloatProduct& p, std::int64_t i0, std::int64_t i1, std::int64_t j0,
                   std::int64_t j1) {
  if (i0 >= i1 || j0 >= j1) return;
  const auto transposition = [](bool t) { return t ? CblasTrans : CblasNoTrans; };
  cblas_sgemm(CblasRowMajor, transposition(p.a.transposed), transposition(p.b.transposed),
              narrow<int>(i1 - i0), narrow<int>(j1 - j0), narrow<int>(p.depth), p.alpha,
              p.a.at(i0, 0), narrow<int>(p.a.pitch), p.b.at(0, j0), narrow<int>(p.b.pitch), p.beta,
              p.c + i0 * p.c_pitch + j0, narrow<int>(p.c_pitch));
}

struct Grid {
  std::int64_t rows, columns;
};

/// Splits the output among the threads so that the parts are near square: each packs its share of
/// both operands for itself.
Grid choose_grid(const FloatProduct& p, int threads) {
  Grid best{1, threads};
  double least = -1;
  for (int rows = 1; rows <= threads; ++rows) {
    if (threads % rows != 0) continue;
    const double part_rows = static_cast<double>(p.rows) / rows;
    const double part_columns = static_cast<double>(p.columns) / (threads / rows);
    const double packed = part_rows + part_columns;
    if (least < 0 || packed < least) {
      least = packed;
      best = {rows, threads / rows};
    }
  }
  return best;
}

void multiply(const FloatProduct& p) {
  constexpr std::int64_t kUnit = 16;       // rows and columns a micro-kernel likes to have
  constexpr double kSmall = 64 * 64 * 64;  // multiply-adds not worth a second thread
  const bool small = static_cast<double>(p.rows) * p.columns * p.depth <= kSmall;
  const Grid grid = choose_grid(p, small ? 1 : host_concurrency());
  const std::int64_t part_rows = round_up(ceil_div(p.rows, grid.rows), kUnit);
  const std::int64_t part_columns = round_up(ceil_div(p.columns, grid.columns), kUnit);
  host_parallel_for("gemm_cblas", grid.rows * grid.columns, [&](std::int64_t part) {
    const std::int64_t i = part / grid.columns * part_rows;
    const std::int64_t j = part % grid.columns * part_columns;
    multiply_part(p, i, std::min(p.rows, i + part_rows), j, std::min(p.columns, j + part_columns));
  });
}

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

/// Casts block (i, j) of op(operand), stored as it lies in memory, into `buffer`.
FloatOperand cast_operand(float* buffer, const Gemm::Operand& operand, std::int64_t i,
                          std::int64_t j, std::int64_t rows, std::int64_t columns) {
  if (operand.transposed) {
    std::swap(i, j);
    std::swap(rows, columns);
  }
  load_block(buffer, operand.matrix, i, j, rows, columns);
  return {buffer, columns, operand.transposed};
}

void multiply_by_blocks(const Gemm& gemm, std::int64_t depth, Ref<std::byte, 1> workspace) {
  constexpr std::int64_t kBlockSize = kCastBlock * kCastBlock;
  auto* buffer = reinterpret_cast<float*>(workspace.data);
  const Matrix& c = gemm.c.matrix;
  for (std::int64_t i = 0; i < c.rows; i += kCastBlock) {
    const std::int64_t rows = std::min(kCastBlock, c.rows - i);
    for (std::int64_t j = 0; j < c.columns; j += kCastBlock) {
      const std::int64_t columns = std::min(kCastBlock, c.columns - j);
      float* c_block = buffer + 2 * kBlockSize;
      if (gemm.accumulate) {
        load_block(c_block, c, i, j, rows, columns);
      } else {
        std::fill_n(c_block, rows * columns, 0.0F);
      }
      for (std::int64_t l = 0; l < depth; l += kCastBlock) {
        const std::int64_t n = std::min(kCastBlock, depth - l);
        multiply({cast_operand(buffer, gemm.a, i, l, rows, n),
                  cast_operand(buffer + kBlockSize, gemm.b, l, j, n, columns), c_block, columns,
                  rows, columns, n, gemm.scale, 1.0F});
      }
      store_block(c, c_block, i, j, rows, columns);
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
void multiply_8_bit(const Gemm& gemm, std::int64_t depth, Ref<std::byte, 1> workspace) {
  constexpr std::int64_t kBlockSize = kCastBlock * kCastBlock;
  auto* a = reinterpret_cast<float*>(workspace.data);
  auto* b = a + kBlockSize;
  auto* sum = b + kBlockSize;
  auto* out = sum + kBlockSize;
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
        multiply({cast_operand(a, gemm.a, i, l, rows, n), cast_operand(b, gemm.b, l, j, n, columns),
                  sum, columns, rows, columns, n, 1.0F, by_block || l == 0 ? 0.0F : 1.0F});
        if (by_block || l + n == depth) add_scaled(block, sum, gemm, l);
      }
      store_block(c, out, i, j, rows, columns);
    }
  }
}

/// An OpenBLAS older than the processor does not know it and takes its oldest kernels, without AVX:
/// a fifth of the speed (Debian's 0.3.21 on Intel processors of 2023). The user's own choice stays.
void wake_openblas() {
#if defined(__x86_64__)
  if (openblas_get_corename == nullptr || gotoblas_dynamic_init == nullptr ||
      gotoblas_dynamic_quit == nullptr || std::getenv("OPENBLAS_CORETYPE") != nullptr ||
      std::string_view(openblas_get_corename()) != "Prescott") {
    return;
  }
  const char* kernels = nullptr;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) kernels = "Haswell";
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    kernels = "SkylakeX";
  }
  if (kernels == nullptr) return;
  setenv("OPENBLAS_CORETYPE", kernels, 1);
  gotoblas_dynamic_quit();
  gotoblas_dynamic_init();
#endif
}

/// OpenBLAS takes a buffer for each thread that calls it, at the first product, and where it gets
/// none it asks again without end. So they are taken now, after asking whether they fit.
void take_openblas_buffers() {
  constexpr std::size_t kBufferBytes = 128 << 20;  // of address space
  if (blas_memory_alloc == nullptr || blas_memory_free == nullptr) return;
  const int threads = host_concurrency();
  const std::size_t bytes = static_cast<std::size_t>(threads) * kBufferBytes;
  void* const room = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) {
    const FreeMemory free = free_process_memory();
    throw UserError(cat("OpenBLAS needs ", kBufferBytes >> 20, " MiB for each of ", threads,
                        threads == 1 ? " thread" : " threads", ", and only ", free.bytes >> 20,
                        " MiB of ", free.of, " are left: raise the limit, or set OMP_NUM_THREADS ",
                        "lower"));
  }
  ::munmap(room, bytes);
  std::vector<void*> buffers(static_cast<std::size_t>(threads));
  for (void*& buffer : buffers) buffer = blas_memory_alloc(0);
  for (void* buffer : buffers) blas_memory_free(buffer);
}

}  // namespace

void prepare_blas() {
  wake_openblas();
  take_openblas_buffers();
  if (openblas_set_num_threads != nullptr) openblas_set_num_threads(1);
}

void gemm_cblas(const Gemm& gemm, Ref<std::byte, 1> workspace) {
  KOIOS_REQUIRE(gemm.batch == 1, "batched products are for CUDA");
  const Matrix& a = gemm.a.matrix;
  const Matrix& b = gemm.b.matrix;
  const Matrix& c = gemm.c.matrix;
  const std::int64_t depth = gemm.a.transposed ? a.rows : a.columns;
  if (size_of(a.dtype) == 1) {
    KOIOS_REQUIRE(!gemm.a.transposed && gemm.b.transposed && gemm.scale == 1,
                  "an 8-bit product of this form");
    multiply_8_bit(gemm, depth, workspace);
    return;
  }
  if (a.dtype != DType::float32 || b.dtype != DType::float32 || c.dtype != DType::float32) {
    multiply_by_blocks(gemm, depth, workspace);
    return;
  }
  multiply({{static_cast<const float*>(a.data), a.pitch, gemm.a.transposed},
            {static_cast<const float*>(b.data), b.pitch, gemm.b.transposed},
            static_cast<float*>(const_cast<void*>(c.data)),
            c.pitch,
            c.rows,
            c.columns,
            depth,
            gemm.scale,
            gemm.accumulate ? 1.0F : 0.0F});
}

}  // namespace koios::detail
