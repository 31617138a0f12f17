#include "kernels/rmsnorm.hpp"

#include <type_traits>

#include "kernels/detail/column_sum.hpp"
#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;
using detail::store;

// Teams of rmsnorm_backward; each sums the weight gradient of a contiguous part of the rows.
constexpr std::int64_t kHostPartials = 64;
constexpr std::int64_t kCudaPartials = 264;  // two per multiprocessor of an H100

template <class T, bool kAdd>
struct Forward {
  // As many blocks to a multiprocessor as leave registers for the packs of one row, or of two.
  using CudaShapes = std::conditional_t<
      kAdd,
      detail::Shapes<detail::Shape<32, 4, 4>, detail::Shape<128, 2, 8>, detail::Shape<256, 2, 4>,
                     detail::Shape<256, 4, 2>, detail::Shape<512, 4, 1>>,
      detail::Shapes<detail::Shape<32, 4, 8>, detail::Shape<128, 2, 10>, detail::Shape<256, 2, 5>,
                     detail::Shape<256, 4, 4>, detail::Shape<512, 4, 2>>>;
  Ref<T, 2> sum, y;
  Ref<float, 1> rstd;
  Ref<const T, 2> x, residual;
  Ref<const T, 1> w;
  float eps;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t n) const {
    const std::int64_t size = w.extent[0];
    const T* in = kAdd ? sum.row(n) : x.row(n);
    typename Lanes::template Held<T> row, added, weight;
    row.fetch(lanes, x.row(n), size);
    if constexpr (kAdd) added.fetch(lanes, residual.row(n), size);
    typename Lanes::Sum squares;
    lanes.each(size, [&](auto width, int p, std::int64_t i) {
      auto v = row.get(width, p, x.row(n) + i);
      if constexpr (kAdd) {
        const auto rounded = detail::pack_as<T>(v + added.get(width, p, residual.row(n) + i));
        store_image(sum.row(n) + i, rounded);
        row.keep(p, rounded);
        v = unpack(rounded);
      }
      squares.add(v * v);
    });
    weight.fetch(lanes, w.data, size);
    const float mean = lanes.sum(squares.value()) / static_cast<float>(size);
    const float r = 1.0F / Kokkos::sqrt(mean + eps);
    if (lanes.rank() == 0) rstd[n] = r;
    lanes.each(size, [&](auto width, int p, std::int64_t i) {
      store(y.row(n) + i, row.get(width, p, in + i) * r * weight.get(width, p, w.data + i));
    });
  }
};

template <class T>
struct Backward {
  using CudaShapes = detail::Shapes<detail::Shape<128, 1, 4>, detail::Shape<256, 1, 3>,
                                    detail::Shape<512, 1, 2>, detail::Shape<1024, 1>>;
  Ref<T, 2> dx;
  Ref<float, 2> partial;
  Ref<const T, 2> dy, dresidual, x;
  Ref<const float, 1> rstd;
  Ref<const T, 1> w;

  /// Rows begin to end of part. With g = dy w: dx = rstd g - x rstd^3 mean(g x), dw = sum_n dy x
  /// rstd. The next row is fetched before the threads wait for each other's sums of this one.
  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t part) const {
    using Held = typename Lanes::template Held<T>;
    const std::int64_t size = w.extent[0];
    const std::int64_t parts = partial.extent[0];
    const std::int64_t begin = x.extent[0] * part / parts;
    const std::int64_t end = x.extent[0] * (part + 1) / parts;
    const bool has_residual = dresidual.data != nullptr;
    typename Lanes::RowSum dw(lanes, partial.row(part), size);
    Held weight, x_row, dy_row, x_next, dy_next, residual_row;
    weight.fetch(lanes, w.data, size);
    if (begin < end) {
      x_next.fetch(lanes, x.row(begin), size);
      dy_next.fetch(lanes, dy.row(begin), size);
    }
    for (std::int64_t n = begin; n < end; ++n) {
      const float r = rstd[n];
      x_row = x_next;
      dy_row = dy_next;
      if (has_residual) residual_row.fetch(lanes, dresidual.row(n), size);
      if (n + 1 < end) {
        x_next.fetch(lanes, x.row(n + 1), size);
        dy_next.fetch(lanes, dy.row(n + 1), size);
      }
      typename Lanes::Sum dot;
      lanes.each(size, [&](auto width, int p, std::int64_t i) {
        const auto g = dy_row.get(width, p, dy.row(n) + i) * weight.get(width, p, w.data + i);
        dot.add(g * x_row.get(width, p, x.row(n) + i));
      });
      const float c = lanes.sum(dot.value()) * r * r * r / static_cast<float>(size);
      lanes.each(size, [&](auto width, int p, std::int64_t i) {
        const auto xs = x_row.get(width, p, x.row(n) + i);
        const auto dys = dy_row.get(width, p, dy.row(n) + i);
        auto d = dys * weight.get(width, p, w.data + i) * r - xs * c;
        if (has_residual) d = d + residual_row.get(width, p, dresidual.row(n) + i);
        dw.add(width, p, i, dys * xs * r);
        store(dx.row(n) + i, d);
      });
    }
    dw.write(lanes, size);
  }
};

template <class T>
void require_shape(const char* name, Ref<T, 2> a, std::int64_t rows, std::int64_t row_size) {
  KOIOS_REQUIRE(a.extent[0] == rows && a.extent[1] == row_size, name, " is ", a.extent[0], "x",
                a.extent[1], ", not ", rows, "x", row_size);
}

template <class T, bool kAdd>
void forward(Stream& s, const char* label, const Forward<T, kAdd>& body) {
  const std::int64_t rows = body.x.extent[0];
  const std::int64_t size = body.x.extent[1];
  require_shape("y", body.y, rows, size);
  KOIOS_REQUIRE(body.w.extent[0] == size && body.rstd.extent[0] == rows, "w has ", body.w.extent[0],
                " of ", size, ", rstd ", body.rstd.extent[0], " of ", rows);
  bool packs = detail::allows_packs(body.y, body.x, body.w);
  if constexpr (kAdd) {
    require_shape("sum", body.sum, rows, size);
    require_shape("residual", body.residual, rows, size);
    packs = packs && detail::allows_packs(body.sum, body.residual);
  }
  detail::for_each_row<T>(s, label, rows, size, packs, body);
}

}  // namespace

template <class T>
void rmsnorm_forward(Stream& s, Ref<T, 2> y_ND, Ref<float, 1> rstd_N, Ref<const T, 2> x_ND,
                     Ref<const T, 1> w_D, float eps) {
  forward(s, "rmsnorm_forward", Forward<T, false>{{}, y_ND, rstd_N, x_ND, {}, w_D, eps});
}

template <class T>
void add_rmsnorm_forward(Stream& s, Ref<T, 2> sum_ND, Ref<T, 2> y_ND, Ref<float, 1> rstd_N,
                         Ref<const T, 2> x_ND, Ref<const T, 2> residual_ND, Ref<const T, 1> w_D,
                         float eps) {
  forward(s, "add_rmsnorm_forward",
          Forward<T, true>{sum_ND, y_ND, rstd_N, x_ND, residual_ND, w_D, eps});
}

std::int64_t rmsnorm_backward_partials(Backend backend) {
  return backend == Backend::host ? kHostPartials : kCudaPartials;
}

template <class T>
void rmsnorm_backward(Stream& s, Ref<T, 2> dx_ND, Ref<float, 1> dw_D, Ref<float, 2> partial_PD,
                      Ref<const T, 2> dy_ND, Ref<const T, 2> dresidual_ND, Ref<const T, 2> x_ND,
                      Ref<const float, 1> rstd_N, Ref<const T, 1> w_D, Write write) {
  const std::int64_t rows = x_ND.extent[0];
  const std::int64_t size = x_ND.extent[1];
  require_shape("dx", dx_ND, rows, size);
  require_shape("dy", dy_ND, rows, size);
  require_shape("partial", partial_PD, rmsnorm_backward_partials(s.backend()), size);
  if (dresidual_ND.data != nullptr) require_shape("dresidual", dresidual_ND, rows, size);
  KOIOS_REQUIRE(w_D.extent[0] == size && dw_D.extent[0] == size && rstd_N.extent[0] == rows,
                "w has ", w_D.extent[0], ", dw ", dw_D.extent[0], " of ", size, ", rstd ",
                rstd_N.extent[0], " of ", rows);
  const bool packs = detail::allows_packs(dx_ND, dy_ND, dresidual_ND, x_ND, w_D, partial_PD);
  detail::for_each_row<T>(s, "rmsnorm_backward", partial_PD.extent[0], size, packs,
                          Backward<T>{dx_ND, partial_PD, dy_ND, dresidual_ND, x_ND, rstd_N, w_D},
                          ceil_div(rows, partial_PD.extent[0]) * size);
  detail::column_sum(s, "rmsnorm_backward_weight", dw_D, partial_PD, write == Write::accumulate);
}

#define KOIOS_INSTANTIATE(T)                                                                      \
  template void rmsnorm_forward<T>(Stream&, Ref<T, 2>, Ref<float, 1>, Ref<const T, 2>,            \
                                   Ref<const T, 1>, float);                                       \
  template void add_rmsnorm_forward<T>(Stream&, Ref<T, 2>, Ref<T, 2>, Ref<float, 1>,              \
                                       Ref<const T, 2>, Ref<const T, 2>, Ref<const T, 1>, float); \
  template void rmsnorm_backward<T>(Stream&, Ref<T, 2>, Ref<float, 1>, Ref<float, 2>,             \
                                    Ref<const T, 2>, Ref<const T, 2>, Ref<const T, 2>,            \
                                    Ref<const float, 1>, Ref<const T, 1>, Write);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
