// Casts with scales of tensors and rows that also write the transpose, and transposes.
#include "kernels/detail/fp8_tile.hpp"
#include "kernels/fp8.hpp"

namespace koios {
namespace {

using detail::ArrayImage;
using detail::ArrayPack;
using detail::ArrayWidth;
using detail::Fp8Counters;
using detail::Fp8Scaler;
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

template <class Q>
Q scaled(float x, float scale, const Fp8Counters& counters) {
  const float value = x * scale;
  counters.scaled<Q>(ArrayPack<1>{{value}});
  return Q(value);
}

#if defined(KOIOS_CUDA)

template <class Q, class T>
struct CudaCast {
  template <bool kPacks>
  struct Body {
    static constexpr int V = 8;
    static constexpr std::int64_t kColumns = Place<V>::kColumns;
    static constexpr int kResident = 4;
    Ref<Q, 2> q_NK, q_KN;
    Ref<const T, 2> x;
    Fp8Scaler<Q> of_rows, of_columns;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ __align__(16) std::uint32_t words[kColumns * TurnedTile<Q, V>::kWords];
      TurnedTile<Q, V> turned(words);
      const TileStart start(tile, x.extent[1], kColumns);
      const Place<V> place(rank);
      const std::int64_t n = start.n + place.row;
      const std::int64_t k = start.k + place.column;
      ArrayImage<T, V> row[kHeldRows];
      KOIOS_UNROLL
      for (int i = 0; i < kHeldRows; ++i) row[i] = fetch<V, kPacks>(x, n + i, k);
      ArrayPack<V> column_scale;
      if (of_columns.by_row) {
        column_scale = detail::generate(ArrayWidth<V>{}, [&](int j) {
          return k + j < x.extent[1] ? of_columns.scale(k + j) : 0.0F;
        });
      }
      ArrayImage<Q, V> codes[kHeldRows];
      KOIOS_UNROLL
      for (int i = 0; i < kHeldRows; ++i) {
        const bool inside = n + i < x.extent[0];
        const auto values = unpack(row[i]);
        const auto scaled = values * (inside ? of_rows.scale(n + i) : 0.0F);
        codes[i] = detail::pack_as<Q>(scaled);
        of_rows.counters.template scaled<Q>(scaled);
        if (q_NK.data != nullptr) put<V, kPacks>(q_NK, n + i, k, codes[i]);
        if (of_columns.by_row) {
          const auto for_columns = values * column_scale;
          codes[i] = detail::pack_as<Q>(for_columns);
          of_columns.counters.template scaled<Q>(for_columns);
        }
        if (inside && k == 0) of_rows.finish_row(n + i);
      }
      if (of_columns.by_row && n == 0) {
        KOIOS_UNROLL
        for (int j = 0; j < V; ++j) {
          if (k + j < x.extent[1]) of_columns.finish_row(k + j);
        }
      }
      turned.take(place, codes);
      __syncthreads();
      turned.template write<kPacks>(q_KN, start.n, start.k, rank);
#endif
    }
  };
};

template <class Q>
struct CudaTranspose {
  template <bool kPacks>
  struct Body {
    static constexpr int V = 16;
    static constexpr std::int64_t kColumns = Place<V>::kColumns;
    static constexpr int kResident = 4;
    Ref<Q, 2> q_KN;
    Ref<const Q, 2> q_NK;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ __align__(16) std::uint32_t words[kColumns * TurnedTile<Q, V>::kWords];
      TurnedTile<Q, V> turned(words);
      const TileStart start(tile, q_NK.extent[1], kColumns);
      const Place<V> place(rank);
      ArrayImage<Q, V> codes[kHeldRows];
      KOIOS_UNROLL
      for (int i = 0; i < kHeldRows; ++i) {
        codes[i] = fetch<V, kPacks>(q_NK, start.n + place.row + i, start.k + place.column);
      }
      turned.take(place, codes);
      __syncthreads();
      turned.template write<kPacks>(q_KN, start.n, start.k, rank);
#endif
    }
  };
};

#endif

}  // namespace

template <class Q, class T>
void cast_to_fp8_with_transpose(Stream& s, Ref<Q, 2> q_NK, Ref<Q, 2> q_KN, Ref<const T, 2> x_NK,
                                const Fp8Scales& of_rows, const Fp8Scales& of_columns,
                                Ref<std::int64_t, 1> counts) {
  if (q_NK.data != nullptr) detail::require_same_shape("q", q_NK, x_NK);
  detail::require_transposed_shape(q_KN, x_NK);
  if (x_NK.size() == 0) return;
  const Fp8Scaler<Q> rows(of_rows, x_NK.extent[0], counts);
  const Fp8Scaler<Q> columns(of_columns, x_NK.extent[1], counts);
  KOIOS_REQUIRE(columns.by_row || columns.amax == rows.amax,
                "one scale for the transpose and another for the matrix");
  constexpr const char* kLabel = "cast_to_fp8_with_transpose";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        detail::host_tiles(kLabel, x_NK, [=](std::int64_t tile) {
          detail::each_of_tile(x_NK, tile, [&](std::int64_t n, std::int64_t k) {
            const auto value = static_cast<float>(x_NK(n, k));
            const Q of_row = scaled<Q>(value, rows.scale(n), rows.counters);
            if (q_NK.data != nullptr) q_NK(n, k) = of_row;
            q_KN(k, n) =
                columns.by_row ? scaled<Q>(value, columns.scale(k), columns.counters) : of_row;
            if (k == 0) rows.finish_row(n);
            if (n == 0 && columns.by_row) columns.finish_row(k);
          });
        });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        detail::cuda_tiles<CudaCast<Q, T>::template Body>(
            exec, kLabel, x_NK, detail::tiles_allow_packs(x_NK, q_NK, q_KN), q_NK, q_KN, x_NK, rows,
            columns);
#endif
      });
}

template <class Q>
void transpose_fp8(Stream& s, Ref<Q, 2> q_KN, Ref<const Q, 2> q_NK) {
  detail::require_transposed_shape(q_KN, q_NK);
  if (q_NK.size() == 0) return;
  constexpr const char* kLabel = "transpose_fp8";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        detail::host_tiles(kLabel, q_NK, [=](std::int64_t tile) {
          detail::each_of_tile(q_NK, tile,
                               [&](std::int64_t n, std::int64_t k) { q_KN(k, n) = q_NK(n, k); });
        });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        detail::cuda_tiles<CudaTranspose<Q>::template Body>(
            exec, kLabel, q_NK, detail::tiles_allow_packs(q_NK, q_KN, q_KN), q_KN, q_NK);
#endif
      });
}

#define KOIOS_INSTANTIATE(Q, T)                                                                  \
  template void cast_to_fp8_with_transpose<Q, T>(Stream&, Ref<Q, 2>, Ref<Q, 2>, Ref<const T, 2>, \
                                                 const Fp8Scales&, const Fp8Scales&,             \
                                                 Ref<std::int64_t, 1>);
KOIOS_INSTANTIATE(fp8_e4m3, float)
KOIOS_INSTANTIATE(fp8_e4m3, bf16)
KOIOS_INSTANTIATE(fp8_e5m2, float)
KOIOS_INSTANTIATE(fp8_e5m2, bf16)
#undef KOIOS_INSTANTIATE
template void transpose_fp8<fp8_e4m3>(Stream&, Ref<fp8_e4m3, 2>, Ref<const fp8_e4m3, 2>);
template void transpose_fp8<fp8_e5m2>(Stream&, Ref<fp8_e5m2, 2>, Ref<const fp8_e5m2, 2>);

}  // namespace koios
