#include "kernels/rmsnorm.hpp"

#include "kernels/detail/column_sum.hpp"
#include "kernels/detail/norm_rows.hpp"

namespace koios {
namespace {

using detail::NormKind;

// Teams of a norm's backward pass; each sums the weight gradient of a contiguous part of the rows.
constexpr std::int64_t kHostPartials = 64;
constexpr std::int64_t kCudaPartials = 528;  // four per multiprocessor of an H100

detail::NormFp8Output fp8_output(const Fp8Output<fp8_e4m3>& y) {
  detail::require_transposed_shape(y.q_KN, y.q_NK);
  KOIOS_REQUIRE(y.amax.extent[0] == 1, "one amax, not ", y.amax.extent[0]);
  return {y.q_NK, detail::Fp8Scaler<fp8_e4m3>(y.scales, 1, y.counts)};
}
void transpose(Stream& s, const Fp8Output<fp8_e4m3>& y) {
  transpose_fp8<fp8_e4m3>(s, y.q_KN, y.q_NK);
}

}  // namespace

template <class T>
void rmsnorm_forward(Stream& s, Ref<T, 2> y_ND, Ref<float, 1> rstd_N, Ref<const T, 2> x_ND,
                     Ref<const T, 1> w_D, float eps, NormRounding rounding, Ref<float, 1> amax) {
  detail::require_one_amax(amax);
  detail::norm_forward(
      s, "rmsnorm_forward",
      detail::NormForward<T, NormKind::rms, false>{
          {}, y_ND, {}, rstd_N, x_ND, {}, w_D, eps, rounding == NormRounding::twice, amax.data});
}

template <class T>
void add_rmsnorm_forward(Stream& s, Ref<T, 2> sum_ND, Ref<T, 2> y_ND, Ref<float, 1> rstd_N,
                         Ref<const T, 2> x_ND, Ref<const T, 2> residual_ND, Ref<const T, 1> w_D,
                         float eps, NormRounding rounding, Ref<float, 1> amax) {
  detail::require_one_amax(amax);
  detail::norm_forward(s, "add_rmsnorm_forward",
                       detail::NormForward<T, NormKind::rms, true>{sum_ND,
                                                                   y_ND,
                                                                   {},
                                                                   rstd_N,
                                                                   x_ND,
                                                                   residual_ND,
                                                                   w_D,
                                                                   eps,
                                                                   rounding == NormRounding::twice,
                                                                   amax.data});
}

template <class T>
void rmsnorm_forward_to_fp8(Stream& s, const Fp8Output<fp8_e4m3>& y, Ref<float, 1> rstd_N,
                            Ref<const T, 2> x_ND, Ref<const T, 1> w_D, float eps,
                            NormRounding rounding) {
  detail::norm_forward(s, "rmsnorm_forward_to_fp8",
                       detail::NormForward<T, NormKind::rms, false, detail::NormFp8Output>{
                           {},
                           fp8_output(y),
                           {},
                           rstd_N,
                           x_ND,
                           {},
                           w_D,
                           eps,
                           rounding == NormRounding::twice,
                           y.amax.data});
  transpose(s, y);
}

template <class T>
void add_rmsnorm_forward_to_fp8(Stream& s, Ref<T, 2> sum_ND, const Fp8Output<fp8_e4m3>& y,
                                Ref<float, 1> rstd_N, Ref<const T, 2> x_ND,
                                Ref<const T, 2> residual_ND, Ref<const T, 1> w_D, float eps,
                                NormRounding rounding) {
  detail::norm_forward(s, "add_rmsnorm_forward_to_fp8",
                       detail::NormForward<T, NormKind::rms, true, detail::NormFp8Output>{
                           sum_ND,
                           fp8_output(y),
                           {},
                           rstd_N,
                           x_ND,
                           residual_ND,
                           w_D,
                           eps,
                           rounding == NormRounding::twice,
                           y.amax.data});
  transpose(s, y);
}

std::int64_t norm_backward_partials(Backend backend) {
  return backend == Backend::host ? kHostPartials : kCudaPartials;
}

template <class T>
void rmsnorm_backward(Stream& s, Ref<T, 2> dx_ND, Ref<float, 1> dw_D, Ref<float, 2> partial_PD,
                      Ref<const T, 2> dy_ND, Ref<const T, 2> dresidual_ND, Ref<const T, 2> x_ND,
                      Ref<const float, 1> rstd_N, Ref<const T, 1> w_D, Write write,
                      Ref<float, 1> amax) {
  detail::require_one_amax(amax);
  const std::int64_t parts = norm_backward_partials(s.backend());
  KOIOS_REQUIRE(partial_PD.extent[0] == parts && dw_D.extent[0] == x_ND.extent[1],
                partial_PD.extent[0], " partial sums, dw has ", dw_D.extent[0]);
  detail::norm_backward(
      s, "rmsnorm_backward",
      detail::NormBackward<T, NormKind::rms>{
          dx_ND, partial_PD, dy_ND, dresidual_ND, x_ND, {}, rstd_N, w_D, amax.data});
  detail::column_sum(s, "rmsnorm_backward_weight", dw_D, partial_PD, write == Write::accumulate);
}

#define KOIOS_INSTANTIATE(T)                                                                      \
  template void rmsnorm_forward<T>(Stream&, Ref<T, 2>, Ref<float, 1>, Ref<const T, 2>,            \
                                   Ref<const T, 1>, float, NormRounding, Ref<float, 1>);          \
  template void add_rmsnorm_forward<T>(Stream&, Ref<T, 2>, Ref<T, 2>, Ref<float, 1>,              \
                                       Ref<const T, 2>, Ref<const T, 2>, Ref<const T, 1>, float,  \
                                       NormRounding, Ref<float, 1>);                              \
  template void rmsnorm_forward_to_fp8<T>(Stream&, const Fp8Output<fp8_e4m3>&, Ref<float, 1>,     \
                                          Ref<const T, 2>, Ref<const T, 1>, float, NormRounding); \
  template void add_rmsnorm_forward_to_fp8<T>(Stream&, Ref<T, 2>, const Fp8Output<fp8_e4m3>&,     \
                                              Ref<float, 1>, Ref<const T, 2>, Ref<const T, 2>,    \
                                              Ref<const T, 1>, float, NormRounding);              \
  template void rmsnorm_backward<T>(Stream&, Ref<T, 2>, Ref<float, 1>, Ref<float, 2>,             \
                                    Ref<const T, 2>, Ref<const T, 2>, Ref<const T, 2>,            \
                                    Ref<const float, 1>, Ref<const T, 1>, Write, Ref<float, 1>);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
