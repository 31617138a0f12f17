#include "model/norm.hpp"

#include "kernels/layernorm.hpp"
#include "kernels/rmsnorm.hpp"
#include "runtime/region.hpp"

namespace koios {
namespace {

NormRounding rounding(Norm norm) {
  return norm == Norm::rmsnorm ? NormRounding::twice : NormRounding::once;
}

}  // namespace

template <class T>
void norm_forward(StageContext<T>& c, Ref<const T, 1> w_D, const NormResult<T>& y,
                  const RowStatistics& rows, Ref<const T, 2> x_SD) {
  const ModelSpec& m = c.model;
  if (y.at_once) {
    const Region region(c.stream, "norm to FP8",
                        passes_over(x_SD, y.at_once->q_NK, y.at_once->q_NK, y.at_once->q_KN));
    rmsnorm_forward_to_fp8<T>(c.stream, *y.at_once, rows.rstd_S, x_SD, w_D, m.norm_eps,
                              rounding(m.norm));
    return c.made("norm", "its result", *y.at_once);
  }
  const Region region(c.stream, "norm", passes_over(x_SD, y.y_SD));
  if (has_mean(m.norm)) {
    layernorm_forward<T>(c.stream, y.y_SD, rows.mean_S, rows.rstd_S, x_SD, w_D, m.norm_eps, y.amax);
  } else {
    rmsnorm_forward<T>(c.stream, y.y_SD, rows.rstd_S, x_SD, w_D, m.norm_eps, rounding(m.norm),
                       y.amax);
  }
  c.made("norm", "its result", y.y_SD);
}

template <class T>
void add_norm_forward(StageContext<T>& c, Ref<const T, 1> w_D, Ref<T, 2> sum_SD,
                      const NormResult<T>& y, const RowStatistics& rows, Ref<const T, 2> x_SD,
                      Ref<const T, 2> delta_SD) {
  const ModelSpec& m = c.model;
  if (y.at_once) {
    const Region region(
        c.stream, "add+norm to FP8",
        passes_over(x_SD, delta_SD, sum_SD, y.at_once->q_NK, y.at_once->q_NK, y.at_once->q_KN));
    add_rmsnorm_forward_to_fp8<T>(c.stream, sum_SD, *y.at_once, rows.rstd_S, x_SD, delta_SD, w_D,
                                  m.norm_eps, rounding(m.norm));
    c.made("residual addition", "the residual stream", sum_SD);
    return c.made("norm", "its result", *y.at_once);
  }
  const Region region(c.stream, "add+norm", passes_over(x_SD, delta_SD, sum_SD, y.y_SD));
  if (has_mean(m.norm)) {
    add_layernorm_forward<T>(c.stream, sum_SD, y.y_SD, rows.mean_S, rows.rstd_S, x_SD, delta_SD,
                             w_D, m.norm_eps, y.amax);
  } else {
    add_rmsnorm_forward<T>(c.stream, sum_SD, y.y_SD, rows.rstd_S, x_SD, delta_SD, w_D, m.norm_eps,
                           rounding(m.norm), y.amax);
  }
  c.made("residual addition", "the residual stream", sum_SD);
  c.made("norm", "its result", y.y_SD);
}

template <class T>
void norm_backward(StageContext<T>& c, Ref<const T, 1> w_D, Ref<float, 1> dw_D, Ref<T, 2> dx_SD,
                   Ref<const T, 2> d_normed_SD, Ref<const T, 2> dresidual_SD, Ref<const T, 2> x_SD,
                   const RowStatistics& rows, Write write, Ref<float, 1> amax) {
  const Region region(c.stream, "norm backward",
                      passes_over(d_normed_SD, dresidual_SD, x_SD, dx_SD));
  const Ref<float, 2> partial_PD = c.scratch.norm_partial_PD;
  if (has_mean(c.model.norm)) {
    layernorm_backward<T>(c.stream, dx_SD, dw_D, partial_PD, d_normed_SD, dresidual_SD, x_SD,
                          rows.mean_S, rows.rstd_S, w_D, write, amax);
  } else {
    rmsnorm_backward<T>(c.stream, dx_SD, dw_D, partial_PD, d_normed_SD, dresidual_SD, x_SD,
                        rows.rstd_S, w_D, write, amax);
  }
}

#define KOIOS_INSTANTIATE(T)                                                                     \
  template void norm_forward<T>(StageContext<T>&, Ref<const T, 1>, const NormResult<T>&,         \
                                const RowStatistics&, Ref<const T, 2>);                          \
  template void add_norm_forward<T>(StageContext<T>&, Ref<const T, 1>, Ref<T, 2>,                \
                                    const NormResult<T>&, const RowStatistics&, Ref<const T, 2>, \
                                    Ref<const T, 2>);                                            \
  template void norm_backward<T>(StageContext<T>&, Ref<const T, 1>, Ref<float, 1>, Ref<T, 2>,    \
                                 Ref<const T, 2>, Ref<const T, 2>, Ref<const T, 2>,              \
                                 const RowStatistics&, Write, Ref<float, 1>);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
