#include "kernels/layernorm.hpp"

#include "kernels/detail/column_sum.hpp"
#include "kernels/detail/norm_rows.hpp"
#include "kernels/rmsnorm.hpp"

namespace koios {
namespace {

using detail::NormBackward;
using detail::NormForward;
using detail::NormKind;

}  // namespace

template <class T>
void layernorm_forward(Stream& s, Ref<T, 2> y_ND, Ref<float, 1> mean_N, Ref<float, 1> rstd_N,
                       Ref<const T, 2> x_ND, Ref<const T, 1> w_D, float eps, Ref<float, 1> amax) {
  detail::require_one_amax(amax);
  const auto run = [&]<NormKind kKind>() {
    detail::norm_forward(s, "layernorm_forward",
                         NormForward<T, kKind, false>{
                             {}, y_ND, mean_N, rstd_N, x_ND, {}, w_D, eps, false, amax.data});
  };
  if (w_D.data != nullptr) {
    run.template operator()<NormKind::layer>();
  } else {
    run.template operator()<NormKind::plain_layer>();
  }
}

template <class T>
void add_layernorm_forward(Stream& s, Ref<T, 2> sum_ND, Ref<T, 2> y_ND, Ref<float, 1> mean_N,
                           Ref<float, 1> rstd_N, Ref<const T, 2> x_ND, Ref<const T, 2> residual_ND,
                           Ref<const T, 1> w_D, float eps, Ref<float, 1> amax) {
  detail::require_one_amax(amax);
  const auto run = [&]<NormKind kKind>() {
    detail::norm_forward(s, "add_layernorm_forward",
                         NormForward<T, kKind, true>{sum_ND, y_ND, mean_N, rstd_N, x_ND,
                                                     residual_ND, w_D, eps, false, amax.data});
  };
  if (w_D.data != nullptr) {
    run.template operator()<NormKind::layer>();
  } else {
    run.template operator()<NormKind::plain_layer>();
  }
}

template <class T>
void layernorm_backward(Stream& s, Ref<T, 2> dx_ND, Ref<float, 1> dw_D, Ref<float, 2> partial_PD,
                        Ref<const T, 2> dy_ND, Ref<const T, 2> dresidual_ND, Ref<const T, 2> x_ND,
                        Ref<const float, 1> mean_N, Ref<const float, 1> rstd_N, Ref<const T, 1> w_D,
                        Write write, Ref<float, 1> amax) {
  detail::require_one_amax(amax);
  const char* label = "layernorm_backward";
  const std::int64_t parts = norm_backward_partials(s.backend());
  if (w_D.data == nullptr) {
    detail::norm_backward(
        s, label,
        NormBackward<T, NormKind::plain_layer>{dx_ND,
                                               make_ref(partial_PD.data, parts, std::int64_t{0}),
                                               dy_ND,
                                               dresidual_ND,
                                               x_ND,
                                               mean_N,
                                               rstd_N,
                                               {},
                                               amax.data});
    return;
  }
  KOIOS_REQUIRE(partial_PD.extent[0] == parts && dw_D.extent[0] == x_ND.extent[1],
                partial_PD.extent[0], " partial sums, dw has ", dw_D.extent[0]);
  detail::norm_backward(s, label,
                        NormBackward<T, NormKind::layer>{dx_ND, partial_PD, dy_ND, dresidual_ND,
                                                         x_ND, mean_N, rstd_N, w_D, amax.data});
  detail::column_sum(s, "layernorm_backward_weight", dw_D, partial_PD, write == Write::accumulate);
}

#define KOIOS_INSTANTIATE(T)                                                                     \
  template void layernorm_forward<T>(Stream&, Ref<T, 2>, Ref<float, 1>, Ref<float, 1>,           \
                                     Ref<const T, 2>, Ref<const T, 1>, float, Ref<float, 1>);    \
  template void add_layernorm_forward<T>(Stream&, Ref<T, 2>, Ref<T, 2>, Ref<float, 1>,           \
                                         Ref<float, 1>, Ref<const T, 2>, Ref<const T, 2>,        \
                                         Ref<const T, 1>, float, Ref<float, 1>);                 \
  template void layernorm_backward<T>(Stream&, Ref<T, 2>, Ref<float, 1>, Ref<float, 2>,          \
                                      Ref<const T, 2>, Ref<const T, 2>, Ref<const T, 2>,         \
                                      Ref<const float, 1>, Ref<const float, 1>, Ref<const T, 1>, \
                                      Write, Ref<float, 1>);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
