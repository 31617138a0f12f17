#include "kernels/fp8.hpp"

#include "kernels/detail/fp8_tile.hpp"

namespace koios {
namespace {

using detail::kTileRows;
using detail::load;
using detail::store;
using detail::TileStart;

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

struct SetBounds {
  float* bound;
  const float* amax;
  float margin;
  const float* norm;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width, std::int64_t first) const {
    if (!Kokkos::isfinite(norm[0])) return;
    for (std::int64_t i = first; i < first + Width::size; ++i) {
      const float next = margin * amax[i];
      if (next > 0 && Kokkos::isfinite(next)) bound[i] = next;
    }
  }
};

/// The maxima of a tile's rows and columns.
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
    const TileStart start(tile, x.extent[1], kColumns);
    const std::int64_t n0 = start.n, k0 = start.k;
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
/// On CUDA: a lane takes V neighbouring columns, a warp some neighbouring rows, of which several
/// are on their way at a time. One lane keeps what is found of a row, so that all are raised at
/// once.
template <class T, bool kPacks>
struct CudaRowAndColumnAmax : RowAndColumnAmax<T> {
  static constexpr int V = 16 / sizeof(T);
  static constexpr int kWarps = 8;
  static constexpr int kBlock = kWarps * detail::kWarp;
  static constexpr int kResident = 4;
  static constexpr int kRows = kTileRows / kWarps;
  static constexpr int kTogether = 4;
  static constexpr int kColumns = detail::kWarp * V;

  KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                  [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
    __shared__ detail::ColumnMagnitudes<T, kWarps, kColumns> columns;
    const auto& x = this->x;
    const TileStart start(tile, x.extent[1], kColumns);
    const int lane = rank % detail::kWarp;
    const std::int64_t n = start.n + rank / detail::kWarp * kRows;
    detail::Words<T, V> of_columns{};
    float of_row = 0;  // of row n + lane
    KOIOS_UNROLL_BY(2)
    for (int first = 0; first < kRows; first += kTogether) {
      detail::Words<T, V> rows[kTogether] = {};
      KOIOS_UNROLL
      for (int i = 0; i < kTogether; ++i) {
        const std::int64_t row = n + first + i;
        if (row < x.extent[0]) rows[i] = detail::fetch<V, kPacks>(x, row, start.k + lane * V);
      }
      KOIOS_UNROLL
      for (int i = 0; i < kTogether; ++i) {
        const float mine = detail::largest_in<T>(detail::largest_word(0, rows[i]));
        const auto all = __reduce_max_sync(0xffffffffU, __builtin_bit_cast(std::uint32_t, mine));
        if (lane == first + i) of_row = __builtin_bit_cast(float, all);
        KOIOS_UNROLL
        for (int w = 0; w < rows[i].kCount; ++w) {
          of_columns.word[w] = detail::larger_in_words<T>(of_columns.word[w], rows[i].word[w]);
        }
      }
    }
    if (lane < kRows && n + lane < x.extent[0]) {
      detail::raise_magnitude(this->amax_N.data + n + lane, of_row);
    }
    KOIOS_UNROLL
    for (int w = 0; w < of_columns.kCount; ++w) {
      columns.of_warp[rank / detail::kWarp][lane * of_columns.kCount + w] = of_columns.word[w];
    }
    __syncthreads();
    if (const std::int64_t k = start.k + rank; rank < kColumns && k < x.extent[1]) {
      detail::raise_magnitude(this->amax_K.data + k, columns.of_all(rank));
    }
#endif
  }
};
#endif

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
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        using Body = HostRowAndColumnAmax<T>;
        Kokkos::parallel_for(
            kLabel,
            detail::HostRange(detail::HostExec{}, 0, detail::count_tiles(x_NK, Body::kColumns)),
            Body{{amax_N, amax_K, x_NK}});
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        const auto run = [&]<bool kPacks>(std::bool_constant<kPacks>) {
          using Body = CudaRowAndColumnAmax<T, kPacks>;
          detail::cuda_teams<Body::kBlock, Body::kResident>(
              exec, kLabel, detail::count_tiles(x_NK, Body::kColumns),
              Body{{amax_N, amax_K, x_NK}});
        };
        if (detail::allows_packs(x_NK) && x_NK.extent[1] % (16 / sizeof(T)) == 0) {
          run(std::true_type{});
        } else {
          run(std::false_type{});
        }
#endif
      });
}

void set_bounds(Stream& s, Ref<float, 1> bound, Ref<const float, 1> amax, float margin,
                Ref<const float, 1> norm) {
  KOIOS_REQUIRE(bound.extent[0] == amax.extent[0] && norm.extent[0] == 1, bound.extent[0],
                " bounds of ", amax.extent[0], " magnitudes and ", norm.extent[0], " norms");
  detail::for_each_element<float>(s, "set_bounds", bound.extent[0], false,
                                  SetBounds{bound.data, amax.data, margin, norm.data});
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
