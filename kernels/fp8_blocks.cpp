// Casts with scales of blocks: amax, scale and cast while a tile is held.
#include "kernels/detail/fp8_tile.hpp"
#include "kernels/fp8.hpp"

namespace koios {
namespace {

using detail::ArrayWidth;
using detail::Fp8Counters;
using detail::TileStart;

#if defined(KOIOS_CUDA)

using detail::kHeldRows;
using detail::kPerWord;
/// A block is two parts side by side; float32 takes twice the registers.
using Blocks = detail::Place<8, kFp8Block, 2>;
static_assert(Blocks::kColumns == kFp8Block);
template <class T>
constexpr int kResidentBlocks = sizeof(T) == 2 ? 3 : 2;

template <class T>
using Columns = detail::ColumnMagnitudes<T, Blocks::kThreads / detail::kWarp, kFp8Block>;

/// Lanes that hold the same rows are kGroup neighbours. Rows share words as values do.
template <class T>
__device__ void find_largest_of_rows(const detail::HeldParts<T, Blocks>& held, const Blocks& at,
                                     std::uint32_t* to) {
  KOIOS_UNROLL
  for (int i = 0; i < kHeldRows; i += kPerWord<T>) {
    std::uint32_t of_rows = 0;
    KOIOS_UNROLL
    for (int j = 0; j < kPerWord<T>; ++j) {
      std::uint32_t of_row = 0;
      for (const auto& part : held.part) of_row = detail::largest_word(of_row, part.row[i + j]);
      of_rows |= detail::word_with<T>(detail::largest_in<T>(of_row), j);
    }
    of_rows = detail::larger_of_lanes<T, 1, detail::kGroup>(of_rows);
    if (at.rank % detail::kGroup == 0) to[(at.row + i) / kPerWord<T>] = of_rows;
  }
}

/// Lanes that hold the same columns lie kGroup apart; then the warps.
template <class T>
__device__ void find_largest_of_columns(const detail::HeldParts<T, Blocks>& held, const Blocks& at,
                                        Columns<T>& columns) {
  KOIOS_UNROLL
  for (int part = 0; part < Blocks::kParts; ++part) {
    auto* to = &columns.of_warp[at.rank / detail::kWarp][at.column_of(part) / kPerWord<T>];
    KOIOS_UNROLL
    for (int w = 0; w < Blocks::V / kPerWord<T>; ++w) {
      std::uint32_t of_columns = 0;
      KOIOS_UNROLL
      for (const auto& row : held.part[part].row) {
        of_columns = detail::larger_in_words<T>(of_columns, row.word[w]);
      }
      of_columns = detail::larger_of_lanes<T, detail::kGroup, detail::kWarp>(of_columns);
      if (at.rank % detail::kWarp < detail::kGroup) to[w] = of_columns;
    }
  }
}

/// A scale for each row of a block, and one for each column.
template <class Q, class T>
struct CudaPieces {
  template <bool kPacks>
  struct Body {
    using Place = Blocks;
    static constexpr int kResident = kResidentBlocks<T>;
    Ref<Q, 2> q_NK;
    Ref<float, 2> inverse_row;
    Ref<Q, 2> q_KN;
    Ref<float, 2> inverse_column;
    Ref<const T, 2> x;
    Fp8Counters counters;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ detail::TurnedTile<Q, Place> turned;
      __shared__ __align__(16) std::uint32_t row_amax[kFp8Block / kPerWord<T>];
      __shared__ Columns<T> column_amax;
      __shared__ __align__(16) float row_scale[kFp8Block], column_scale[kFp8Block];
      const Place at(tile, rank, x.extent[1]);
      const auto held = detail::hold<kPacks>(x, at);
      find_largest_of_rows(held, at, row_amax);
      find_largest_of_columns(held, at, column_amax);
      __syncthreads();
      // Each thread divides one scale, for a row or a column.
      static_assert(Place::kThreads == 2 * kFp8Block);
      if (rank < kFp8Block) {
        const std::int64_t n = at.start.n + rank;
        float* inverse = n < x.extent[0] && q_NK.data != nullptr
                             ? &inverse_row(at.start.k / kFp8Block, n)
                             : nullptr;
        row_scale[rank] =
            scale(detail::value_in<T>(row_amax[rank / kPerWord<T>], rank % kPerWord<T>), inverse);
      } else {
        const int column = rank - kFp8Block;
        const std::int64_t k = at.start.k + column;
        float* inverse = k < x.extent[1] ? &inverse_column(at.start.n / kFp8Block, k) : nullptr;
        column_scale[column] = scale(column_amax.of_all(column), inverse);
      }
      __syncthreads();
      const auto of_rows = load(ArrayWidth<kHeldRows>{}, row_scale + at.row);
      KOIOS_UNROLL
      for (int part = 0; part < Place::kParts; ++part) {
        const auto of_columns = load(ArrayWidth<Place::V>{}, column_scale + at.column_of(part));
        detail::cast_rows<kPacks>(held.part[part], of_rows, q_NK, at, part, {});
        turned.take(at, part, detail::cast_columns<Q>(held.part[part], of_columns, {}));
      }
      __syncthreads();
      turned.template write<kPacks>(at, q_KN);
#endif
    }

   private:
    /// Where there is no inverse, nobody wants the scale.
    __device__ float scale(float amax, float* inverse) const {
      const float scale = detail::fp8_scale<Q>(amax, false);
      if (inverse != nullptr) {
        *inverse = 1.0F / scale;
        counters.scale_of(amax);
      }
      return scale;
    }
  };
};

/// One scale for a block.
template <class Q, class T>
struct CudaSquares {
  template <bool kPacks>
  struct Body {
    using Place = Blocks;
    static constexpr int kResident = kResidentBlocks<T>;
    Ref<Q, 2> q_NK;
    Ref<float, 2> inverse_NK;
    Ref<Q, 2> q_KN;
    Ref<float, 2> inverse_KN;
    Ref<const T, 2> x;
    Fp8Counters counters;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ detail::TurnedTile<Q, Place> turned;
      const Place at(tile, rank, x.extent[1]);
      const auto held = detail::hold<kPacks>(x, at);
      std::uint32_t largest = 0;
      KOIOS_UNROLL
      for (const auto& part : held.part) {
        KOIOS_UNROLL
        for (const auto& row : part.row) largest = detail::largest_word(largest, row);
      }
      const float amax = detail::across_threads<Place::kThreads>(detail::largest_in<T>(largest),
                                                                 rank, detail::LargerMagnitude{});
      const float scale = detail::fp8_scale<Q>(amax, false);
      if (rank == 0) {
        const std::int64_t row = at.start.n / kFp8Block, column = at.start.k / kFp8Block;
        inverse_NK(row, column) = 1.0F / scale;
        inverse_KN(column, row) = 1.0F / scale;
        counters.scale_of(amax);
      }
      KOIOS_UNROLL
      for (int part = 0; part < Place::kParts; ++part) {
        turned.take(
            at, part,
            detail::cast_rows<kPacks>(held.part[part], filled(ArrayWidth<kHeldRows>{}, scale), q_NK,
                                      at, part, {}));
      }
      __syncthreads();
      turned.template write<kPacks>(at, q_KN);
#endif
    }
  };
};

#endif

void require_block_scales(const char* name, Ref<float, 2> inverse, std::int64_t rows,
                          std::int64_t columns) {
  KOIOS_REQUIRE(inverse.extent[0] >= rows && inverse.extent[1] >= columns, name, " is ",
                inverse.extent[0], "x", inverse.extent[1], ", needed are ", rows, "x", columns);
}

void require_counters(Ref<std::int64_t, 1> counts) {
  KOIOS_REQUIRE(counts.data == nullptr || counts.extent[0] == kFp8Counts, counts.extent[0],
                " counters");
}

}  // namespace

template <class Q, class T>
void cast_to_fp8_in_pieces(Stream& s, Ref<Q, 2> q_NK, Ref<float, 2> inverse_row_BN, Ref<Q, 2> q_KN,
                           Ref<float, 2> inverse_column_BK, Ref<const T, 2> x_NK,
                           Ref<std::int64_t, 1> counts) {
  const std::int64_t N = x_NK.extent[0];
  const std::int64_t K = x_NK.extent[1];
  detail::require_transposed_shape(q_KN, x_NK);
  if (q_NK.data != nullptr) {
    detail::require_same_shape("q", q_NK, x_NK);
    require_block_scales("inverse_row_BN", inverse_row_BN, ceil_div(K, kFp8Block), N);
  }
  require_block_scales("inverse_column_BK", inverse_column_BK, ceil_div(N, kFp8Block), K);
  require_counters(counts);
  if (x_NK.size() == 0) return;
  const Fp8Counters counters{counts.data};
  constexpr const char* kLabel = "cast_to_fp8_in_pieces";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        detail::host_tiles(kLabel, x_NK, [=](std::int64_t tile) {
          const TileStart start(tile, K, detail::kHostTileColumns);
          float of_row[kFp8Block] = {};
          float of_column[kFp8Block] = {};
          detail::each_of_tile(x_NK, tile, [&](std::int64_t n, std::int64_t k) {
            const auto value = static_cast<float>(x_NK(n, k));
            for (float* largest : {&of_row[n - start.n], &of_column[k - start.k]}) {
              *largest = detail::larger_magnitude(*largest, value);
            }
          });
          detail::each_of_tile(x_NK, tile, [&](std::int64_t n, std::int64_t k) {
            const auto value = static_cast<float>(x_NK(n, k));
            const float row_scale = detail::fp8_scale<Q>(of_row[n - start.n], false);
            const float column_scale = detail::fp8_scale<Q>(of_column[k - start.k], false);
            if (q_NK.data != nullptr) q_NK(n, k) = Q(value * row_scale);
            q_KN(k, n) = Q(value * column_scale);
            if (q_NK.data != nullptr && k == start.k) {
              inverse_row_BN(k / kFp8Block, n) = 1.0F / row_scale;
              counters.scale_of(of_row[n - start.n]);
            }
            if (n == start.n) {
              inverse_column_BK(n / kFp8Block, k) = 1.0F / column_scale;
              counters.scale_of(of_column[k - start.k]);
            }
          });
        });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        detail::cuda_tiles<CudaPieces<Q, T>::template Body>(
            exec, kLabel, x_NK, detail::tiles_allow_packs(x_NK, q_NK, q_KN), q_NK, inverse_row_BN,
            q_KN, inverse_column_BK, x_NK, counters);
#endif
      });
}

template <class Q, class T>
void cast_to_fp8_in_squares(Stream& s, Ref<Q, 2> q_NK, Ref<float, 2> inverse_NK, Ref<Q, 2> q_KN,
                            Ref<float, 2> inverse_KN, Ref<const T, 2> x_NK,
                            Ref<std::int64_t, 1> counts) {
  const std::int64_t rows = ceil_div(x_NK.extent[0], kFp8Block);
  const std::int64_t columns = ceil_div(x_NK.extent[1], kFp8Block);
  detail::require_same_shape("q", q_NK, x_NK);
  detail::require_transposed_shape(q_KN, x_NK);
  require_block_scales("inverse_NK", inverse_NK, rows, columns);
  require_block_scales("inverse_KN", inverse_KN, columns, rows);
  require_counters(counts);
  if (x_NK.size() == 0) return;
  const Fp8Counters counters{counts.data};
  constexpr const char* kLabel = "cast_to_fp8_in_squares";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        detail::host_tiles(kLabel, x_NK, [=](std::int64_t tile) {
          float amax = 0;
          detail::each_of_tile(x_NK, tile, [&](std::int64_t n, std::int64_t k) {
            amax = detail::larger_magnitude(amax, static_cast<float>(x_NK(n, k)));
          });
          const float scale = detail::fp8_scale<Q>(amax, false);
          detail::each_of_tile(x_NK, tile, [&](std::int64_t n, std::int64_t k) {
            q_NK(n, k) = Q(static_cast<float>(x_NK(n, k)) * scale);
            q_KN(k, n) = q_NK(n, k);
          });
          const TileStart start(tile, x_NK.extent[1], detail::kHostTileColumns);
          inverse_NK(start.n / kFp8Block, start.k / kFp8Block) = 1.0F / scale;
          inverse_KN(start.k / kFp8Block, start.n / kFp8Block) = 1.0F / scale;
          counters.scale_of(amax);
        });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        detail::cuda_tiles<CudaSquares<Q, T>::template Body>(
            exec, kLabel, x_NK, detail::tiles_allow_packs(x_NK, q_NK, q_KN), q_NK, inverse_NK, q_KN,
            inverse_KN, x_NK, counters);
#endif
      });
}

#define KOIOS_INSTANTIATE(Q, T)                                                                    \
  template void cast_to_fp8_in_pieces<Q, T>(Stream&, Ref<Q, 2>, Ref<float, 2>, Ref<Q, 2>,          \
                                            Ref<float, 2>, Ref<const T, 2>, Ref<std::int64_t, 1>); \
  template void cast_to_fp8_in_squares<Q, T>(Stream&, Ref<Q, 2>, Ref<float, 2>, Ref<Q, 2>,         \
                                             Ref<float, 2>, Ref<const T, 2>,                       \
                                             Ref<std::int64_t, 1>);
KOIOS_INSTANTIATE(fp8_e4m3, float)
KOIOS_INSTANTIATE(fp8_e4m3, bf16)
KOIOS_INSTANTIATE(fp8_e5m2, float)
KOIOS_INSTANTIATE(fp8_e5m2, bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
