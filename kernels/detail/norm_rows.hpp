// The bodies of rmsnorm and layernorm, one row of N at a time: they differ in whether the mean is
// taken off first and whether there is a weight. One pass over memory each.
#pragma once

#include <type_traits>

#include "kernels/detail/fp8_scale.hpp"
#include "kernels/detail/launch.hpp"

namespace koios::detail {

enum class NormKind { rms, layer, plain_layer };

template <NormKind kKind>
inline constexpr bool kCentered = kKind != NormKind::rms;
template <NormKind kKind>
inline constexpr bool kWeighted = kKind != NormKind::plain_layer;

/// As many blocks to a multiprocessor as leave registers for the packs of one row, or of two. The
/// layer norms, which no large deck uses, have fewer ways: each takes nvcc a minute.
template <NormKind kKind, bool kAdd>
using NormShapes = std::conditional_t<
    kCentered<kKind>, Shapes<Shape<128, 2, 4>, Shape<256, 4, 2>, Shape<512, 4, 1>>,
    std::conditional_t<kAdd,
                       Shapes<Shape<32, 4, 4>, Shape<128, 2, 8>, Shape<256, 2, 4>, Shape<256, 4, 2>,
                              Shape<512, 4, 1>>,
                       Shapes<Shape<32, 4, 8>, Shape<128, 2, 10>, Shape<256, 2, 5>,
                              Shape<256, 4, 4>, Shape<512, 4, 2>>>>;

/// What the lanes have found, together.
template <class Lanes>
KOKKOS_FUNCTION void raise_amax_of(const Lanes& lanes, float* amax,
                                   const typename Lanes::Magnitude& largest) {
  const float found = lanes.magnitude(largest.value());
  if (lanes.rank() == 0) raise_magnitude(amax, found);
}

/// Where the result of a norm goes.
template <class T>
struct NormOutput {
  Ref<T, 2> y;

  template <class Lanes>
  KOKKOS_FUNCTION float scale_of(const Lanes&, std::int64_t) const {
    return 1;
  }
  template <class Image>
  KOKKOS_FUNCTION void write(std::int64_t n, std::int64_t i, const Image& rounded, float) const {
    store_image(y.row(n) + i, rounded);
  }
};

/// Cast at once.
struct NormFp8Output {
  Ref<fp8_e4m3, 2> y;
  Fp8Scaler<fp8_e4m3> scaler;

  /// Loaded before anything is written: afterwards it might be another one for all the compiler
  /// knows.
  template <class Lanes>
  KOKKOS_FUNCTION float scale_of(const Lanes& lanes, std::int64_t n) const {
    if (n == 0 && lanes.rank() == 0) scaler.finish_row(0);
    return scaler.scale(0);
  }
  template <class Image>
  KOKKOS_FUNCTION void write(std::int64_t n, std::int64_t i, const Image& rounded,
                             float scale) const {
    const auto value = unpack(rounded);
    const auto one = value - value + 1.0F;  // NaN for an infinity
    const auto scaled = value * scale * one;
    store(y.row(n) + i, scaled);
    scaler.counters.template scaled<fp8_e4m3>(scaled);
  }
};

/// y = (x - mean) rstd w with 1 / rstd^2 = mean((x - mean)^2) + eps; rms: mean is 0.
template <class T, NormKind kKind, bool kAdd, class Output = NormOutput<T>>
struct NormForward {
  using CudaShapes = NormShapes<kKind, kAdd>;
  Ref<T, 2> sum;  // with kAdd
  Output out;
  Ref<float, 1> mean, rstd;
  Ref<const T, 2> x, residual;
  Ref<const T, 1> w;
  float eps;
  bool rounds_twice;  // to T before the weight, too
  float* amax;        // raised to the largest |y|; or null

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t n) const {
    const std::int64_t size = x.extent[1];
    const float scale = out.scale_of(lanes, n);
    const T* in = kAdd ? sum.row(n) : x.row(n);
    typename Lanes::template Held<T> row, added, weight;
    row.fetch(lanes, x.row(n), size);
    if constexpr (kAdd) added.fetch(lanes, residual.row(n), size);
    typename Lanes::Sum first;  // of x, or of its squares
    lanes.each(size, [&](auto width, int p, std::int64_t i) {
      auto v = row.get(width, p, x.row(n) + i);
      if constexpr (kAdd) {
        const auto rounded = pack_as<T>(v + added.get(width, p, residual.row(n) + i));
        store_image(sum.row(n) + i, rounded);
        row.keep(p, rounded);
        v = unpack(rounded);
      }
      if constexpr (kCentered<kKind>) {
        first.add(v);
      } else {
        first.add(v * v);
      }
    });
    if constexpr (kWeighted<kKind>) weight.fetch(lanes, w.data, size);
    float m = lanes.sum(first.value()) / static_cast<float>(size);
    float square = m;
    if constexpr (kCentered<kKind>) {
      typename Lanes::Sum squares;
      lanes.each(size, [&](auto width, int p, std::int64_t i) {
        const auto v = row.get(width, p, in + i) - m;
        squares.add(v * v);
      });
      square = lanes.sum(squares.value()) / static_cast<float>(size);
      if (lanes.rank() == 0) mean[n] = m;
    } else {
      m = 0;
    }
    const float r = 1.0F / Kokkos::sqrt(square + eps);
    if (lanes.rank() == 0) rstd[n] = r;
    typename Lanes::Magnitude largest;
    lanes.each(size, [&](auto width, int p, std::int64_t i) {
      auto v = row.get(width, p, in + i);
      if constexpr (kCentered<kKind>) v = v - m;
      v = v * r;
      if (rounds_twice) v = unpack(pack_as<T>(v));
      if constexpr (kWeighted<kKind>) v = v * weight.get(width, p, w.data + i);
      const auto rounded = pack_as<T>(v);
      out.write(n, i, rounded, scale);
      if (amax != nullptr) largest.add(unpack(rounded));
    });
    if (amax != nullptr) raise_amax_of(lanes, amax, largest);
  }
};

/// In place of sums over the rows where there is no weight.
struct NoRowSum {
  template <class Lanes>
  KOIOS_HOST_DEVICE NoRowSum(const Lanes&, float*, std::int64_t) {}
  template <class Width, class Pack>
  KOIOS_HOST_DEVICE void add(Width, int, std::int64_t, const Pack&) {}
  template <class Lanes>
  KOIOS_HOST_DEVICE void write(const Lanes&, std::int64_t) const {}
};

template <class T, NormKind kKind>
struct NormBackward {
  // Few threads to a row and several rows to a multiprocessor: while one block's threads wait for
  // memory or for each other, the others go on. None spills a register.
  using CudaShapes = std::conditional_t<
      kCentered<kKind>, Shapes<Shape<128, 4, 4>, Shape<256, 4, 2>>,
      Shapes<Shape<128, 1, 4>, Shape<128, 4, 4>, Shape<256, 3, 2>, Shape<256, 4, 2>>>;
  Ref<T, 2> dx;
  Ref<float, 2> partial;  // plain_layer: only its rows count
  Ref<const T, 2> dy, dresidual, x;
  Ref<const float, 1> mean, rstd;
  Ref<const T, 1> w;
  float* amax;  // raised to the largest |dx|; or null

  /// Rows begin to end of part. With g = dy w and xc = x - mean:
  /// dx = rstd (g - mean(g)) - xc rstd^3 mean(g xc), dw = sum_n dy xc rstd; rms: without mean(g).
  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t part) const {
    using Held = typename Lanes::template Held<T>;
    using RowSum = std::conditional_t<kWeighted<kKind>, typename Lanes::RowSum, NoRowSum>;
    const std::int64_t size = x.extent[1];
    const std::int64_t parts = partial.extent[0];
    const std::int64_t begin = x.extent[0] * part / parts;
    const std::int64_t end = x.extent[0] * (part + 1) / parts;
    const bool has_residual = dresidual.data != nullptr;
    RowSum dw(lanes, partial.row(part), size);
    Held x_row, dy_row, residual_row;
    typename Lanes::Magnitude largest;
    for (std::int64_t n = begin; n < end; ++n) {
      const float r = rstd[n];
      const float m = kCentered<kKind> ? mean[n] : 0.0F;
      x_row.fetch(lanes, x.row(n), size);
      dy_row.fetch(lanes, dy.row(n), size);
      if (has_residual) residual_row.fetch(lanes, dresidual.row(n), size);
      const auto centered = [&](auto width, int p, std::int64_t i) {
        const auto v = x_row.get(width, p, x.row(n) + i);
        if constexpr (kCentered<kKind>) {
          return v - m;
        } else {
          return v;
        }
      };
      const auto weighted = [&](auto width, int p, std::int64_t i) {
        const auto v = dy_row.get(width, p, dy.row(n) + i);
        if constexpr (kWeighted<kKind>) {
          return v * load(width, w.data + i);  // near: every row reads it
        } else {
          return v;
        }
      };
      typename Lanes::Sum dot, sum;
      lanes.each(size, [&](auto width, int p, std::int64_t i) {
        const auto g = weighted(width, p, i);
        dot.add(g * centered(width, p, i));
        if constexpr (kCentered<kKind>) sum.add(g);
      });
      const float c = lanes.sum(dot.value()) * r * r * r / static_cast<float>(size);
      float g_mean = 0;
      if constexpr (kCentered<kKind>)
        g_mean = lanes.sum(sum.value()) * r / static_cast<float>(size);
      lanes.each(size, [&](auto width, int p, std::int64_t i) {
        const auto xc = centered(width, p, i);
        auto d = weighted(width, p, i) * r - xc * c;
        if constexpr (kCentered<kKind>) d = d - g_mean;
        if (has_residual) d = d + residual_row.get(width, p, dresidual.row(n) + i);
        if constexpr (kWeighted<kKind>) {
          dw.add(width, p, i, dy_row.get(width, p, dy.row(n) + i) * xc * r);
        }
        const auto rounded = pack_as<T>(d);
        store_image(dx.row(n) + i, rounded);
        if (amax != nullptr) largest.add(unpack(rounded));
      });
    }
    dw.write(lanes, size);
    if (amax != nullptr) raise_amax_of(lanes, amax, largest);
  }
};

template <class T>
void require_shape(const char* name, Ref<T, 2> a, std::int64_t rows, std::int64_t row_size) {
  KOIOS_REQUIRE(a.extent[0] == rows && a.extent[1] == row_size, name, " is ", a.extent[0], "x",
                a.extent[1], ", not ", rows, "x", row_size);
}

template <class T, NormKind kKind, bool kAdd, class Output>
void norm_forward(Stream& s, const char* label, const NormForward<T, kKind, kAdd, Output>& body) {
  const std::int64_t rows = body.x.extent[0];
  const std::int64_t size = body.x.extent[1];
  require_shape("y", body.out.y, rows, size);
  KOIOS_REQUIRE(body.rstd.extent[0] == rows, "rstd has ", body.rstd.extent[0], " of ", rows);
  if constexpr (kCentered<kKind>) {
    KOIOS_REQUIRE(body.mean.extent[0] == rows, "mean has ", body.mean.extent[0], " of ", rows);
  }
  if constexpr (kWeighted<kKind>) {
    KOIOS_REQUIRE(body.w.extent[0] == size, "w has ", body.w.extent[0], " of ", size);
  }
  bool packs = allows_packs(body.out.y, body.x, body.w);
  if constexpr (kAdd) {
    require_shape("sum", body.sum, rows, size);
    require_shape("residual", body.residual, rows, size);
    packs = packs && allows_packs(body.sum, body.residual);
  }
  for_each_row<T>(s, label, rows, size, packs, body);
}

template <class T, NormKind kKind>
void norm_backward(Stream& s, const char* label, const NormBackward<T, kKind>& body) {
  const std::int64_t rows = body.x.extent[0];
  const std::int64_t size = body.x.extent[1];
  require_shape("dx", body.dx, rows, size);
  require_shape("dy", body.dy, rows, size);
  if (body.dresidual.data != nullptr) require_shape("dresidual", body.dresidual, rows, size);
  KOIOS_REQUIRE(body.rstd.extent[0] == rows, "rstd has ", body.rstd.extent[0], " of ", rows);
  if constexpr (kCentered<kKind>) {
    KOIOS_REQUIRE(body.mean.extent[0] == rows, "mean has ", body.mean.extent[0], " of ", rows);
  }
  const std::int64_t parts = body.partial.extent[0];
  bool packs = allows_packs(body.dx, body.dy, body.dresidual, body.x);
  if constexpr (kWeighted<kKind>) {
    require_shape("partial", body.partial, parts, size);
    KOIOS_REQUIRE(body.w.extent[0] == size, "w has ", body.w.extent[0], " of ", size);
    packs = packs && allows_packs(body.w, body.partial);
  }
  for_each_row<T>(s, label, parts, size, packs, body, ceil_div(rows, parts) * size);
}

}  // namespace koios::detail
