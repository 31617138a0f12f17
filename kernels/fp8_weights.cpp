#include "kernels/fp8_weights.hpp"

#include "kernels/detail/fp8_scale.hpp"
#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;
using detail::store;

/// What of x a square has.
struct SquareRows {
  Ref<float, 2> amax;
  Ref<const float, 2> x;
  std::int64_t first_row;

  /// Squares that have rows of x.
  std::int64_t count() const {
    if (x.size() == 0) return 0;
    return ceil_div(first_row % kFp8Block + x.extent[0], kFp8Block) * amax.extent[1];
  }
  KOKKOS_INLINE_FUNCTION float* at(std::int64_t square) const {
    return &amax(first_row / kFp8Block + square / amax.extent[1], square % amax.extent[1]);
  }
  KOKKOS_INLINE_FUNCTION std::int64_t first_column(std::int64_t square) const {
    return square % amax.extent[1] * kFp8Block;
  }
  KOKKOS_INLINE_FUNCTION std::int64_t columns(std::int64_t square) const {
    return Kokkos::min(std::int64_t{kFp8Block}, x.extent[1] - first_column(square));
  }
  KOKKOS_INLINE_FUNCTION std::int64_t begin(std::int64_t square) const {
    return Kokkos::max(std::int64_t{0},
                       square / amax.extent[1] * kFp8Block - first_row % kFp8Block);
  }
  KOKKOS_INLINE_FUNCTION std::int64_t end(std::int64_t square) const {
    return Kokkos::min(x.extent[0],
                       (square / amax.extent[1] + 1) * kFp8Block - first_row % kFp8Block);
  }
};

struct HostSquareAmax : SquareRows {
  KOKKOS_FUNCTION void operator()(std::int64_t square) const {
    detail::HostLane::Magnitude largest;
    for (std::int64_t n = begin(square); n < end(square); ++n) {
      const float* row = x.row(n) + first_column(square);
      detail::HostLane().each(columns(square), [&](auto width, int, std::int64_t i) {
        largest.add(load(width, row + i));
      });
    }
    detail::raise_magnitude(at(square), largest.value());
  }
};

#if defined(KOIOS_CUDA)
/// A lane takes W neighbouring columns at a time, a warp every eighth row.
template <int W>
struct CudaSquareAmax : SquareRows {
  static constexpr int kWarps = 8;
  static constexpr int kBlock = kWarps * detail::kWarp;

  KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t square,
                                  [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
    const std::int64_t last = end(square);
    const std::int64_t size = columns(square);
    float largest = 0;
    for (std::int64_t k = rank % detail::kWarp * W; k < size; k += detail::kWarp * W) {
      const float* column = x.data + first_column(square) + k;
      KOIOS_UNROLL_BY(8)
      for (std::int64_t n = begin(square) + rank / detail::kWarp; n < last; n += kWarps) {
        const auto v = load(detail::ArrayWidth<W>{}, column + n * x.pitch);
        largest = detail::larger_magnitude(largest, largest_magnitude(v));
      }
    }
    largest = detail::across_threads<kBlock>(largest, rank, detail::LargerMagnitude{});
    if (rank == 0) detail::raise_magnitude(at(square), largest);
#endif
  }
};
#endif

struct MakeScales {
  Ref<float, 1> scale, inverse;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width, std::int64_t i) const {
    for (std::int64_t k = i; k < i + Width::size; ++k) {
      scale.data[k] = detail::fp8_scale<fp8_e4m3>(scale.data[k], false);
      inverse.data[k] = 1.0F / scale.data[k];
    }
  }
};

struct CastBySquare {
  Ref<fp8_e4m3, 2> q;
  Ref<const float, 2> x, scale;
  std::int64_t first_row;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n, std::int64_t i) const {
    static_assert(kFp8Block % Width::size == 0);
    const float s = scale((first_row + n) / kFp8Block, i / kFp8Block);
    store(q.row(n) + i, load(width, x.row(n) + i) * s);
  }
};

struct CastByRowAndColumn {
  Ref<fp8_e4m3, 2> by_row, by_column;
  Ref<const float, 2> x;
  Ref<const float, 1> of_rows, of_columns;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n, std::int64_t i) const {
    const auto v = load(width, x.row(n) + i);
    if (by_row.data != nullptr) store(by_row.row(n) + i, v * of_rows.data[n]);
    if (by_column.data != nullptr) {
      store(by_column.row(n) + i, v * load(width, of_columns.data + i));
    }
  }
};

struct Transpose {
  Ref<float, 2> turned;
  Ref<const float, 2> scale;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width, std::int64_t n, std::int64_t i) const {
    for (std::int64_t k = i; k < i + Width::size; ++k) turned(k, n) = scale(n, k);
  }
};

void require_squares(Ref<const float, 2> of_squares, Ref<const float, 2> x,
                     std::int64_t first_row) {
  const std::int64_t last_row = first_row + x.extent[0];
  KOIOS_REQUIRE(first_row >= 0 && ceil_div(last_row, kFp8Block) <= of_squares.extent[0] &&
                    ceil_div(x.extent[1], kFp8Block) == of_squares.extent[1],
                of_squares.extent[0], "x", of_squares.extent[1], " squares for rows ", first_row,
                " to ", last_row, " of ", x.extent[1]);
}

}  // namespace

void raise_amax_of_squares(Stream& s, Ref<float, 2> amax_BB, Ref<const float, 2> x_NK,
                           std::int64_t first_row) {
  require_squares(amax_BB, x_NK, first_row);
  const SquareRows rows{amax_BB, x_NK, first_row};
  if (rows.count() == 0) return;
  constexpr const char* kLabel = "raise_amax_of_squares";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        Kokkos::parallel_for(kLabel, detail::HostRange(detail::HostExec{}, 0, rows.count()),
                             HostSquareAmax{rows});
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        const auto run = [&]<int W>(detail::ArrayWidth<W>) {
          using Body = CudaSquareAmax<W>;
          detail::cuda_teams<Body::kBlock>(exec, kLabel, rows.count(), Body{rows});
        };
        if (detail::allows_packs(x_NK) && x_NK.extent[1] % 4 == 0) {
          run(detail::ArrayWidth<4>{});
        } else {
          run(detail::ArrayWidth<1>{});
        }
#endif
      });
}

void make_weight_scales(Stream& s, Ref<float, 1> scale, Ref<float, 1> inverse) {
  KOIOS_REQUIRE(scale.extent[0] == inverse.extent[0], scale.extent[0], " scales and ",
                inverse.extent[0], " inverse ones");
  detail::for_each_element<float>(s, "make_weight_scales", scale.extent[0], false,
                                  MakeScales{scale, inverse});
}

void cast_weights_by_square(Stream& s, Ref<fp8_e4m3, 2> q_NK, Ref<const float, 2> x_NK,
                            Ref<const float, 2> scale_BB, std::int64_t first_row) {
  detail::require_same_shape("q", q_NK, x_NK);
  require_squares(scale_BB, x_NK, first_row);
  // Eight at a time: fewer would leave less than eight bytes to be written.
  detail::for_each_pack<bf16>(s, "cast_weights_by_square", x_NK.extent[0], x_NK.extent[1],
                              detail::allows_packs(q_NK, x_NK),
                              CastBySquare{q_NK, x_NK, scale_BB, first_row});
}

void cast_weights_by_row_and_column(Stream& s, Ref<fp8_e4m3, 2> by_row_NK,
                                    Ref<fp8_e4m3, 2> by_column_NK, Ref<const float, 2> x_NK,
                                    Ref<const float, 1> scale_N, Ref<const float, 1> scale_K) {
  if (by_row_NK.data != nullptr) detail::require_same_shape("by_row", by_row_NK, x_NK);
  if (by_column_NK.data != nullptr) detail::require_same_shape("by_column", by_column_NK, x_NK);
  KOIOS_REQUIRE(scale_N.extent[0] == x_NK.extent[0] && scale_K.extent[0] == x_NK.extent[1],
                scale_N.extent[0], " and ", scale_K.extent[0], " scales of ", x_NK.extent[0], "x",
                x_NK.extent[1]);
  detail::for_each_pack<bf16>(s, "cast_weights_by_row_and_column", x_NK.extent[0], x_NK.extent[1],
                              detail::allows_packs(by_row_NK, by_column_NK, x_NK, scale_K),
                              CastByRowAndColumn{by_row_NK, by_column_NK, x_NK, scale_N, scale_K});
}

void transpose_scales(Stream& s, Ref<float, 2> turned_BB, Ref<const float, 2> scale_BB) {
  detail::require_transposed_shape(turned_BB, scale_BB);
  detail::for_each_pack<float>(s, "transpose_scales", scale_BB.extent[0], scale_BB.extent[1], false,
                               Transpose{turned_BB, scale_BB});
}

}  // namespace koios
