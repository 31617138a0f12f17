// Casts with scales of blocks: amax, scale and cast while a tile is held.
#include "kernels/detail/fp8_tile.hpp"
#include "kernels/fp8.hpp"

namespace koios {
namespace {

using detail::ArrayImage;
using detail::ArrayPack;
using detail::ArrayWidth;
using detail::Fp8Counters;
using detail::TileStart;
#if defined(KOIOS_CUDA)
using detail::fetch;
using detail::kGroup;
using detail::kHeldRows;
using detail::kTileThreads;
using detail::Place;
using detail::put;
using detail::TurnedTile;
#endif

#if defined(KOIOS_CUDA)

/// kSquare: one scale for 128 x 128; otherwise one for each row of the tile and one for each
/// column.
template <class Q, class T, bool kSquare>
struct CudaBlockCast {
  template <bool kPacks>
  struct Body {
    static constexpr int V = 8;
    static constexpr int kHalves = 2;  // a tile is two of the tiles that are turned, side by side
    static constexpr std::int64_t kColumns = kHalves * Place<V>::kColumns;
    static_assert(kColumns == kFp8Block);
    static constexpr int kResident = 2;
    static constexpr int kWarps = kTileThreads / detail::kWarp;
    Ref<Q, 2> q_NK;
    Ref<float, 2> inverse_row;
    Ref<Q, 2> q_KN;
    Ref<float, 2> inverse_column;
    Ref<const T, 2> x;
    Fp8Counters counters;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ __align__(16) std::uint32_t words[Place<V>::kColumns * TurnedTile<Q, V>::kWords];
      __shared__ float of_warp[kWarps][kColumns];
      TurnedTile<Q, V> turned(words);
      const TileStart start(tile, x.extent[1], kColumns);
      const Place<V> place(rank);
      const std::int64_t n = start.n + place.row;
      const auto k = [&](int half) { return start.k + half * Place<V>::kColumns + place.column; };

      ArrayImage<T, V> held[kHalves][kHeldRows];
      KOIOS_UNROLL
      for (int half = 0; half < kHalves; ++half) {
        KOIOS_UNROLL
        for (int i = 0; i < kHeldRows; ++i) held[half][i] = fetch<V, kPacks>(x, n + i, k(half));
      }

      float row_amax[kHeldRows] = {};
      ArrayPack<V> column_amax[kHalves];
      KOIOS_UNROLL
      for (int half = 0; half < kHalves; ++half) {
        column_amax[half] = detail::filled(ArrayWidth<V>{}, 0.0F);
        KOIOS_UNROLL
        for (int i = 0; i < kHeldRows; ++i) {
          const auto values = unpack(held[half][i]);
          row_amax[i] = detail::larger_magnitude(row_amax[i], largest_magnitude(values));
          column_amax[half] = larger_magnitude(column_amax[half], values);
        }
      }
      if constexpr (kSquare) {
        float mine = 0;
        for (const float of_row : row_amax) mine = detail::larger_magnitude(mine, of_row);
        mine = detail::across_threads<kTileThreads>(mine, rank, detail::LargerMagnitude{});
        for (float& of_row : row_amax) of_row = mine;
      } else {
        KOIOS_UNROLL
        for (int i = 0; i < kHeldRows; ++i) {
          KOIOS_UNROLL
          for (int distance = kGroup / 2; distance > 0; distance /= 2) {
            row_amax[i] = detail::larger_magnitude(
                row_amax[i], __shfl_xor_sync(0xffffffffU, row_amax[i], distance));
          }
        }
        // The threads of a warp that hold the same columns, then the warps.
        KOIOS_UNROLL
        for (int half = 0; half < kHalves; ++half) {
          KOIOS_UNROLL
          for (int j = 0; j < V; ++j) {
            float& largest = column_amax[half].v[j];
            KOIOS_UNROLL
            for (int distance = kGroup; distance < detail::kWarp; distance *= 2) {
              largest = detail::larger_magnitude(largest,
                                                 __shfl_xor_sync(0xffffffffU, largest, distance));
            }
            if (rank % detail::kWarp < kGroup) {
              of_warp[rank / detail::kWarp][half * Place<V>::kColumns + place.column + j] = largest;
            }
          }
        }
        __syncthreads();
        KOIOS_UNROLL
        for (int half = 0; half < kHalves; ++half) {
          KOIOS_UNROLL
          for (int j = 0; j < V; ++j) {
            float largest = 0;
            KOIOS_UNROLL
            for (int w = 0; w < kWarps; ++w) {
              largest = detail::larger_magnitude(
                  largest, of_warp[w][half * Place<V>::kColumns + place.column + j]);
            }
            column_amax[half].v[j] = largest;
          }
        }
      }

      float row_scale[kHeldRows];
      KOIOS_UNROLL
      for (int i = 0; i < kHeldRows; ++i) row_scale[i] = detail::fp8_scale<Q>(row_amax[i], false);
      if constexpr (kSquare) {
        if (rank == 0) {
          const float inverse = 1.0F / row_scale[0];
          inverse_row(start.n / kFp8Block, start.k / kFp8Block) = inverse;
          inverse_column(start.k / kFp8Block, start.n / kFp8Block) = inverse;
          counters.scale_of(row_amax[0]);
        }
      } else if (q_NK.data != nullptr && rank % kGroup == 0) {
        KOIOS_UNROLL
        for (int i = 0; i < kHeldRows; ++i) {
          if (n + i >= x.extent[0]) continue;
          inverse_row(start.k / kFp8Block, n + i) = 1.0F / row_scale[i];
          counters.scale_of(row_amax[i]);
        }
      }

      KOIOS_UNROLL
      for (int half = 0; half < kHalves; ++half) {
        ArrayPack<V> column_scale;
        if constexpr (!kSquare) {
          column_scale = detail::generate(ArrayWidth<V>{}, [&](int j) {
            return detail::fp8_scale<Q>(column_amax[half].v[j], false);
          });
          if (place.row == 0) {
            KOIOS_UNROLL
            for (int j = 0; j < V; ++j) {
              if (k(half) + j >= x.extent[1]) continue;
              inverse_column(start.n / kFp8Block, k(half) + j) = 1.0F / column_scale.v[j];
              counters.scale_of(column_amax[half].v[j]);
            }
          }
        }
        ArrayImage<Q, V> codes[kHeldRows];
        KOIOS_UNROLL
        for (int i = 0; i < kHeldRows; ++i) {
          const auto values = unpack(held[half][i]);
          codes[i] = detail::pack_as<Q>(values * row_scale[i]);
          if (q_NK.data != nullptr) put<V, kPacks>(q_NK, n + i, k(half), codes[i]);
          if constexpr (!kSquare) codes[i] = detail::pack_as<Q>(values * column_scale);
        }
        if (half > 0) __syncthreads();  // the first half is read
        turned.take(place, codes);
        __syncthreads();
        turned.template write<kPacks>(q_KN, start.n, start.k + half * Place<V>::kColumns, rank);
      }
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
        detail::cuda_tiles<CudaBlockCast<Q, T, false>::template Body>(
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
        detail::cuda_tiles<CudaBlockCast<Q, T, true>::template Body>(
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
