#include "kernels/fp8.hpp"

#include "kernels/detail/fp8_scale.hpp"
#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;
using detail::store;

/// Of a row, or of a piece of an array without gaps.
template <class T>
struct RaiseAmax {
  using CudaShapes = detail::Shapes<>;
  float* amax;
  Ref<const T, 2> x;
  std::int64_t piece, size;  // size of all rows together, which may end within a piece

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t n) const {
    typename Lanes::Magnitude largest;
    const T* from = x.data + n * (piece > 0 ? piece : x.pitch);
    const std::int64_t count = piece > 0 ? Kokkos::min(piece, size - n * piece) : x.extent[1];
    lanes.each(count, [&](auto width, int, std::int64_t i) { largest.add(load(width, from + i)); });
    const float found = lanes.magnitude(largest.value());
    if (lanes.rank() == 0) detail::raise_magnitude(amax, found);
  }
};

template <class Q, class T>
struct CastToFp8 {
  Ref<Q, 2> q;
  Ref<const T, 2> x;
  detail::Fp8Scaler<Q> scaler;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n, std::int64_t i) const {
    const auto scaled = load(width, x.row(n) + i) * scaler.scale(n);
    store(q.row(n) + i, scaled);
    scaler.counters.template scaled<Q>(scaled);
    if (i == 0) scaler.finish_row(n);
  }
};

/// A tile of 128 rows: the maxima of its rows and columns.
constexpr std::int64_t kTileRows = 128;

template <class T>
struct RowAndColumnAmax {
  Ref<float, 1> amax_N, amax_K;
  Ref<const T, 2> x;
};

/// On the host: columns that stay in the first-level cache.
template <class T>
struct HostRowAndColumnAmax : RowAndColumnAmax<T> {
  static constexpr std::int64_t kColumns = 512;

  KOKKOS_FUNCTION void operator()(std::int64_t tile) const {
    const auto& x = this->x;
    const std::int64_t tiles_of_row = ceil_div(x.extent[1], kColumns);
    const std::int64_t n0 = tile / tiles_of_row * kTileRows;
    const std::int64_t k0 = tile % tiles_of_row * kColumns;
    const std::int64_t columns = Kokkos::min(std::int64_t{kColumns}, x.extent[1] - k0);
    const std::int64_t end = Kokkos::min(n0 + kTileRows, x.extent[0]);
    float of_column[kColumns] = {};
    for (std::int64_t n = n0; n < end; ++n) {
      detail::HostLane::Magnitude of_row;
      detail::HostLane().each(columns, [&](auto width, int, std::int64_t i) {
        const auto v = load(width, x.row(n) + k0 + i);
        of_row.add(v);
        store(of_column + i, larger_magnitude(load(width, of_column + i), v));
      });
      detail::raise_magnitude(this->amax_N.data + n, of_row.value());
    }
    for (std::int64_t i = 0; i < columns; ++i) {
      detail::raise_magnitude(this->amax_K.data + k0 + i, of_column[i]);
    }
  }
};

#if defined(KOIOS_CUDA)
/// On CUDA: a lane takes W neighbouring columns, a warp every eighth row.
template <class T, int W>
struct CudaRowAndColumnAmax : RowAndColumnAmax<T> {
  static constexpr int kWarps = 8;
  static constexpr int kBlock = kWarps * detail::kWarp;
  static constexpr std::int64_t kColumns = detail::kWarp * W;

  KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                  [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
    __shared__ float of_warp[kWarps][kColumns];
    const auto& x = this->x;
    const std::int64_t tiles_of_row = ceil_div(x.extent[1], kColumns);
    const std::int64_t n0 = tile / tiles_of_row * kTileRows;
    const std::int64_t k0 = tile % tiles_of_row * kColumns;
    const int warp = rank / detail::kWarp;
    const int lane = rank % detail::kWarp;
    const std::int64_t k = k0 + lane * W;  // rows are whole packs, or W is 1
    auto of_columns = filled(detail::ArrayWidth<W>{}, 0.0F);
    KOIOS_UNROLL_BY(4)
    for (int r = warp; r < kTileRows; r += kWarps) {
      const std::int64_t n = n0 + r;
      auto v = filled(detail::ArrayWidth<W>{}, 0.0F);
      if (n < x.extent[0] && k < x.extent[1]) v = load(detail::ArrayWidth<W>{}, x.row(n) + k);
      of_columns = larger_magnitude(of_columns, v);
      const float of_row = detail::across_threads<detail::kWarp>(largest_magnitude(v), lane,
                                                                 detail::LargerMagnitude{});
      if (lane == 0 && n < x.extent[0]) detail::raise_magnitude(this->amax_N.data + n, of_row);
    }
    KOIOS_UNROLL
    for (int j = 0; j < W; ++j) of_warp[warp][lane * W + j] = of_columns.v[j];
    __syncthreads();
    for (int c = rank; c < kColumns && k0 + c < x.extent[1]; c += kBlock) {
      float largest = 0;
      KOIOS_UNROLL
      for (int w = 0; w < kWarps; ++w) {
        largest = detail::larger_magnitude(largest, of_warp[w][c]);
      }
      detail::raise_magnitude(this->amax_K.data + k0 + c, largest);
    }
#endif
  }
};
#endif

}  // namespace

namespace {

template <class T>
Ref<T, 2> scales_at(T* data, std::int64_t rows, std::int64_t columns, Fp8ScaleKind kind) {
  const std::int64_t pieces = ceil_div(columns, kFp8Block);
  switch (kind) {
    case Fp8ScaleKind::row:
      return make_ref(data, std::int64_t{1}, rows);
    case Fp8ScaleKind::piece:
      return make_ref(data, pieces, rows);
    case Fp8ScaleKind::square:
      return {data, {ceil_div(rows, kFp8Block), pieces}, round_up(pieces, 4)};
    case Fp8ScaleKind::matrix:
      break;
  }
  return make_ref(data, std::int64_t{1}, std::int64_t{1});
}

}  // namespace

Ref<float, 2> fp8_scales(float* data, std::int64_t rows, std::int64_t columns, Fp8ScaleKind kind) {
  return scales_at(data, rows, columns, kind);
}
Ref<const float, 2> fp8_scales(const float* data, std::int64_t rows, std::int64_t columns,
                               Fp8ScaleKind kind) {
  return scales_at(data, rows, columns, kind);
}

std::int64_t fp8_scale_floats(std::int64_t rows, std::int64_t columns, Fp8ScaleKind kind) {
  if (kind == Fp8ScaleKind::matrix) return kFp8ScalePitch;
  const Ref<float, 2> scales = scales_at<float>(nullptr, rows, columns, kind);
  return scales.extent[0] * scales.pitch;
}

template <class T>
void raise_amax(Stream& s, Ref<float, 1> amax, Ref<const T, 2> x_NK) {
  KOIOS_REQUIRE(amax.extent[0] == 1, "one amax, not ", amax.extent[0]);
  if (x_NK.size() == 0) return;
  constexpr std::int64_t kPiece = 16384;
  // The last piece must end with a whole pack: one that began in it would read on behind x.
  const bool packs = detail::allows_packs(x_NK) && x_NK.size() % 16 == 0;
  if (x_NK.is_contiguous()) {
    detail::for_each_row<T>(s, "raise_amax", ceil_div(x_NK.size(), kPiece), kPiece, packs,
                            RaiseAmax<T>{amax.data, x_NK, kPiece, x_NK.size()});
  } else {
    detail::for_each_row<T>(s, "raise_amax", x_NK.extent[0], x_NK.extent[1], packs,
                            RaiseAmax<T>{amax.data, x_NK, 0, x_NK.size()});
  }
}

template <class T>
void raise_amax_of_rows_and_columns(Stream& s, Ref<float, 1> amax_N, Ref<float, 1> amax_K,
                                    Ref<const T, 2> x_NK) {
  KOIOS_REQUIRE(amax_N.extent[0] == x_NK.extent[0] && amax_K.extent[0] == x_NK.extent[1],
                amax_N.extent[0], " and ", amax_K.extent[0], " maxima of ", x_NK.extent[0], "x",
                x_NK.extent[1]);
  if (x_NK.size() == 0) return;
  constexpr const char* kLabel = "raise_amax_of_rows_and_columns";
  const auto tiles = [&](std::int64_t columns) {
    return ceil_div(x_NK.extent[0], kTileRows) * ceil_div(x_NK.extent[1], columns);
  };
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        using Body = HostRowAndColumnAmax<T>;
        Kokkos::parallel_for(kLabel,
                             detail::HostRange(detail::HostExec{}, 0, tiles(Body::kColumns)),
                             Body{{amax_N, amax_K, x_NK}});
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        constexpr int W = 16 / sizeof(T);
        const auto run = [&]<int kWidth>(detail::ArrayWidth<kWidth>) {
          using Body = CudaRowAndColumnAmax<T, kWidth>;
          detail::cuda_teams<Body::kBlock>(exec, kLabel, tiles(Body::kColumns),
                                           Body{{amax_N, amax_K, x_NK}});
        };
        if (detail::allows_packs(x_NK) && x_NK.extent[1] % W == 0) {
          run(detail::ArrayWidth<W>{});
        } else {
          run(detail::ArrayWidth<1>{});
        }
#endif
      });
}

template <class Q, class T>
void cast_to_fp8(Stream& s, Ref<Q, 2> q_NK, Ref<const T, 2> x_NK, const Fp8Scales& scales,
                 Ref<std::int64_t, 1> counts) {
  detail::require_same_shape("q", q_NK, x_NK);
  // Eight at a time, whatever T is: fewer would leave less than eight bytes to be written.
  detail::for_each_pack<bf16>(
      s, "cast_to_fp8", x_NK.extent[0], x_NK.extent[1], detail::allows_packs(q_NK, x_NK),
      CastToFp8<Q, T>{q_NK, x_NK, detail::Fp8Scaler<Q>(scales, x_NK.extent[0], counts)});
}

#define KOIOS_INSTANTIATE(T)                                                             \
  template void raise_amax<T>(Stream&, Ref<float, 1>, Ref<const T, 2>);                  \
  template void raise_amax_of_rows_and_columns<T>(Stream&, Ref<float, 1>, Ref<float, 1>, \
                                                  Ref<const T, 2>);                      \
  template void cast_to_fp8<fp8_e4m3, T>(Stream&, Ref<fp8_e4m3, 2>, Ref<const T, 2>,     \
                                         const Fp8Scales&, Ref<std::int64_t, 1>);        \
  template void cast_to_fp8<fp8_e5m2, T>(Stream&, Ref<fp8_e5m2, 2>, Ref<const T, 2>,     \
                                         const Fp8Scales&, Ref<std::int64_t, 1>);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
