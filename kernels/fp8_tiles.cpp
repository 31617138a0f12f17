// Casts with scales of tensors and rows that also write the transpose, and transposes.
#include "kernels/detail/fp8_tile.hpp"
#include "kernels/fp8.hpp"

namespace koios {
namespace {

using detail::Fp8Scaler;
using detail::scaled;
#if defined(KOIOS_CUDA)
using detail::ArrayWidth;
using detail::kHeldRows;
#endif

#if defined(KOIOS_CUDA)

/// One scale for all. It is loaded and divided once, before anything is written: afterwards it
/// would have to be done again for each row, since q may lie over amax for all the compiler knows.
template <class Q, class T>
struct CudaCast {
  template <bool kPacks>
  struct Body {
    using Place = detail::Place<8>;
    static constexpr int kResident = 4;
    Ref<Q, 2> q_NK, q_KN;
    Ref<const T, 2> x;
    Fp8Scaler<Q> scaler;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ detail::TurnedTile<Q, Place> turned;
      const Place at(tile, rank, x.extent[1]);
      const auto held = detail::hold<kPacks>(x, at).part[0];
      const auto scale = filled(ArrayWidth<kHeldRows>{}, scaler.scale(0));
      if (tile == 0 && rank == 0) scaler.finish_row(0);
      turned.take(at, 0, detail::cast_rows<kPacks>(held, scale, q_NK, at, 0, scaler.counters));
      __syncthreads();
      turned.template write<kPacks>(at, q_KN);
#endif
    }
  };
};

/// A scale for each row and each column. The threads divide one each, and share them.
template <class Q, class T>
struct CudaCastByRowAndColumn {
  template <bool kPacks>
  struct Body {
    using Place = detail::Place<8>;
    static constexpr int kResident = 4;
    static_assert(Place::kRows + Place::kColumns <= Place::kThreads);
    Ref<Q, 2> q_NK, q_KN;
    Ref<const T, 2> x;
    Fp8Scaler<Q> of_rows, of_columns;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ detail::TurnedTile<Q, Place> turned;
      __shared__ __align__(16) float row_scale[Place::kRows];
      __shared__ __align__(16) float column_scale[Place::kColumns];
      const Place at(tile, rank, x.extent[1]);
      const auto held = detail::hold<kPacks>(x, at).part[0];
      if (rank < Place::kRows) {
        row_scale[rank] = scale(of_rows, at.start.n + rank, x.extent[0], at.start.k == 0);
      } else if (const int column = rank - Place::kRows; column < Place::kColumns) {
        column_scale[column] = scale(of_columns, at.start.k + column, x.extent[1], at.start.n == 0);
      }
      __syncthreads();
      detail::cast_rows<kPacks>(held, load(ArrayWidth<kHeldRows>{}, row_scale + at.row), q_NK, at,
                                0, of_rows.counters);
      turned.take(
          at, 0,
          detail::cast_columns<Q>(held, load(ArrayWidth<Place::V>{}, column_scale + at.column),
                                  of_columns.counters));
      __syncthreads();
      turned.template write<kPacks>(at, q_KN);
#endif
    }

    KOKKOS_FUNCTION static float scale(const Fp8Scaler<Q>& scaler, std::int64_t row,
                                       std::int64_t rows, bool finish) {
      if (row >= rows) return 0;
      if (finish) scaler.finish_row(row);
      return scaler.scale(row);
    }
  };
};

template <class Q>
struct CudaTranspose {
  template <bool kPacks>
  struct Body {
    using Place = detail::Place<16, 256>;
    static constexpr int kResident = 3;
    Ref<Q, 2> q_KN;
    Ref<const Q, 2> q_NK;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ detail::TurnedTile<Q, Place> turned;
      const Place at(tile, rank, q_NK.extent[1]);
      turned.take(at, 0, detail::hold<kPacks>(q_NK, at).part[0]);
      __syncthreads();
      turned.template write<kPacks>(at, q_KN);
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
  KOIOS_REQUIRE(columns.by_row || (!rows.by_row && columns.amax == rows.amax),
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
        const bool packs = detail::tiles_allow_packs(x_NK, q_NK, q_KN);
        if (columns.by_row) {
          detail::cuda_tiles<CudaCastByRowAndColumn<Q, T>::template Body>(
              exec, kLabel, x_NK, packs, q_NK, q_KN, x_NK, rows, columns);
        } else {
          detail::cuda_tiles<CudaCast<Q, T>::template Body>(exec, kLabel, x_NK, packs, q_NK, q_KN,
                                                            x_NK, rows);
        }
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
