// The model's norms (model/norm_type): which kernel, and what it keeps of each row. The addition of
// one sub-layer's output and the next norm are one kernel in all of them. Rows are independent, so
// a rank normalises its rows of the sequence and no other's; the weight's gradient over these rows
// is summed over the ranks of a tensor-parallel group once a step (shard/replicated.hpp).
#pragma once

#include "model/block.hpp"

namespace koios {

/// Of each row, for the backward pass; mean_S only where has_mean(norm).
struct RowStatistics {
  Ref<float, 1> rstd_S;
  Ref<float, 1> mean_S;
};

/// y = norm(x) by the weight at position `weight` of the unit (np_layernorm: none is there).
template <class T>
void norm_forward(BlockContext<T>& c, const UnitView<const T>& unit, int weight, Ref<T, 2> y_SD,
                  const RowStatistics& rows, Ref<const T, 2> x_SD);

/// sum = x + buffers.delta, y = norm(sum).
template <class T>
void add_norm_forward(BlockContext<T>& c, const UnitView<const T>& unit, int weight,
                      Ref<T, 2> sum_SD, Ref<T, 2> y_SD, const RowStatistics& rows,
                      Ref<const T, 2> x_SD);

/// buffers.dx = dresidual + gradient of norm(x) from buffers.d_normed; the weight's gradient goes
/// to `gradients`.
template <class T>
void norm_backward(BlockContext<T>& c, const UnitView<const T>& unit,
                   const UnitView<float>& gradients, int weight, Ref<const T, 2> dresidual_SD,
                   Ref<const T, 2> x_SD, const RowStatistics& rows, Write write);

}  // namespace koios
