#include "model/norm.hpp"

#include "kernels/layernorm.hpp"
#include "kernels/rmsnorm.hpp"

namespace koios {
namespace {

template <class T>
Ref<T, 1> vector_or_none(const UnitView<T>& unit, int parameter) {
  return unit.has(parameter) ? unit.vector(parameter) : Ref<T, 1>{};
}

NormRounding rounding(Norm norm) {
  return norm == Norm::rmsnorm ? NormRounding::twice : NormRounding::once;
}

}  // namespace

template <class T>
void norm_forward(BlockContext<T>& c, const UnitView<const T>& unit, int weight, Ref<T, 2> y_SD,
                  const RowStatistics& rows, Ref<const T, 2> x_SD) {
  const LlamaShapes& m = c.model;
  const Ref<const T, 1> w_D = vector_or_none(unit, weight);
  if (has_mean(m.norm)) {
    layernorm_forward<T>(c.stream, y_SD, rows.mean_S, rows.rstd_S, x_SD, w_D, m.norm_eps);
  } else {
    rmsnorm_forward<T>(c.stream, y_SD, rows.rstd_S, x_SD, w_D, m.norm_eps, rounding(m.norm));
  }
}

template <class T>
void add_norm_forward(BlockContext<T>& c, const UnitView<const T>& unit, int weight,
                      Ref<T, 2> sum_SD, Ref<T, 2> y_SD, const RowStatistics& rows,
                      Ref<const T, 2> x_SD) {
  const LlamaShapes& m = c.model;
  const Ref<const T, 1> w_D = vector_or_none(unit, weight);
  const Ref<const T, 2> delta_SD = c.buffers.delta_SD;
  if (has_mean(m.norm)) {
    add_layernorm_forward<T>(c.stream, sum_SD, y_SD, rows.mean_S, rows.rstd_S, x_SD, delta_SD, w_D,
                             m.norm_eps);
  } else {
    add_rmsnorm_forward<T>(c.stream, sum_SD, y_SD, rows.rstd_S, x_SD, delta_SD, w_D, m.norm_eps,
                           rounding(m.norm));
  }
}

template <class T>
void norm_backward(BlockContext<T>& c, const UnitView<const T>& unit,
                   const UnitView<float>& gradients, int weight, Ref<const T, 2> dresidual_SD,
                   Ref<const T, 2> x_SD, const RowStatistics& rows, Write write) {
  LlamaBuffers<T>& b = c.buffers;
  const Ref<const T, 1> w_D = vector_or_none(unit, weight);
  const Ref<float, 1> dw_D = vector_or_none(gradients, weight);
  if (has_mean(c.model.norm)) {
    layernorm_backward<T>(c.stream, b.dx_SD, dw_D, b.norm_partial_PD, b.d_normed_SD, dresidual_SD,
                          x_SD, rows.mean_S, rows.rstd_S, w_D, write);
  } else {
    rmsnorm_backward<T>(c.stream, b.dx_SD, dw_D, b.norm_partial_PD, b.d_normed_SD, dresidual_SD,
                        x_SD, rows.rstd_S, w_D, write);
  }
}

#define KOIOS_INSTANTIATE(T)                                                                    \
  template void norm_forward<T>(BlockContext<T>&, const UnitView<const T>&, int, Ref<T, 2>,     \
                                const RowStatistics&, Ref<const T, 2>);                         \
  template void add_norm_forward<T>(BlockContext<T>&, const UnitView<const T>&, int, Ref<T, 2>, \
                                    Ref<T, 2>, const RowStatistics&, Ref<const T, 2>);          \
  template void norm_backward<T>(BlockContext<T>&, const UnitView<const T>&,                    \
                                 const UnitView<float>&, int, Ref<const T, 2>, Ref<const T, 2>, \
                                 const RowStatistics&, Write);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
