// The model's norms (model/norm_type): which kernel, and what it keeps of each row. The addition of
// one sub-layer's output and the next norm are one kernel in all of them. Rows are independent, so
// a rank normalises its rows of the sequence and no other's; the weight's gradient over these rows
// is summed over the ranks of a tensor-parallel group once a step (shard/tensor_copies.hpp).
#pragma once

#include <optional>

#include "model/block.hpp"

namespace koios {

/// Where the result of a norm goes.
template <class T>
struct NormResult {
  Ref<T, 2> y_SD;
  Ref<float, 1> amax{};  // raised to its largest magnitude; empty where nobody wants to know
  std::optional<Fp8Output<fp8_e4m3>> at_once{};  // instead of both; rmsnorm only
};

/// y = norm(x). In all three w_D is empty where the norm has no weight.
template <class T>
void norm_forward(StageContext<T>& c, Ref<const T, 1> w_D, const NormResult<T>& y,
                  const RowStatistics& rows, Ref<const T, 2> x_SD);

/// sum = x + delta, y = norm(sum).
template <class T>
void add_norm_forward(StageContext<T>& c, Ref<const T, 1> w_D, Ref<T, 2> sum_SD,
                      const NormResult<T>& y, const RowStatistics& rows, Ref<const T, 2> x_SD,
                      Ref<const T, 2> delta_SD);

/// dx = dresidual + gradient of norm(x) from d_normed; dx may be dresidual. The weight's gradient
/// goes to dw_D. amax: of dx, as above.
template <class T>
void norm_backward(StageContext<T>& c, Ref<const T, 1> w_D, Ref<float, 1> dw_D, Ref<T, 2> dx_SD,
                   Ref<const T, 2> d_normed_SD, Ref<const T, 2> dresidual_SD, Ref<const T, 2> x_SD,
                   const RowStatistics& rows, Write write, Ref<float, 1> amax = {});

}  // namespace koios
