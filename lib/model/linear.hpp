// A linear layer whose weight may be several parameters stacked by rows (q|k|v, gate|up): one GEMM
// for each contiguous piece, each producing or consuming its own columns. And products whose rows
// come from tensor-parallel ranks (Gathered) or go to them (Partial), in whatever pieces they do.
#pragma once

#include <vector>

#include "kernels/gemm.hpp"
#include "model/tensor_parallel.hpp"
#include "shard/unit_view.hpp"

namespace koios {

template <class T>
void stacked_forward(MathHandles& math, Stream& s, Ref<T, 2> y_NO, Ref<const T, 2> x_NI,
                     const std::vector<StackedRows<const T>>& weights) {
  for (const auto& w : weights) {
    linear_forward(math, s, column_range(y_NO, w.first_row, w.matrix.extent[0]), x_NI, w.matrix);
  }
}

template <class T>
void stacked_backward_input(MathHandles& math, Stream& s, Ref<T, 2> dx_NI, Ref<const T, 2> dy_NO,
                            const std::vector<StackedRows<const T>>& weights) {
  Write write = Write::overwrite;
  for (const auto& w : weights) {
    linear_backward_input(math, s, dx_NI, column_range(dy_NO, w.first_row, w.matrix.extent[0]),
                          w.matrix, write);
    write = Write::accumulate;
  }
}

template <class T>
void stacked_backward_weight(MathHandles& math, Stream& s,
                             const std::vector<StackedRows<float>>& gradients,
                             Ref<const T, 2> dy_NO, Ref<const T, 2> x_NI, Write write) {
  for (const auto& g : gradients) {
    linear_backward_weight(math, s, g.matrix, column_range(dy_NO, g.first_row, g.matrix.extent[0]),
                           x_NI, write);
  }
}

template <class T>
using GatheredRows = typename TensorParallel<T>::Gathered;
template <class T>
using PartialRows = typename TensorParallel<T>::Partial;

template <class T>
void stacked_forward(MathHandles& math, Stream& s, Ref<T, 2> y_NO, const GatheredRows<T>& x_NI,
                     const std::vector<StackedRows<const T>>& weights) {
  x_NI.each([&](std::int64_t first, Ref<const T, 2> rows) {
    stacked_forward<T>(math, s, row_range(y_NO, first, rows.extent[0]), rows, weights);
  });
}

template <class T>
void linear_forward(MathHandles& math, Stream& s, const PartialRows<T>& y_NO, Ref<const T, 2> x_NI,
                    Ref<const T, 2> w_OI) {
  y_NO.each([&](std::int64_t first, Ref<T, 2> rows) {
    linear_forward<T>(math, s, rows, row_range(x_NI, first, rows.extent[0]), w_OI);
  });
}

template <class T>
void linear_backward_input(MathHandles& math, Stream& s, Ref<T, 2> dx_NI,
                           const GatheredRows<T>& dy_NO, Ref<const T, 2> w_OI) {
  dy_NO.each([&](std::int64_t first, Ref<const T, 2> rows) {
    linear_backward_input<T>(math, s, row_range(dx_NI, first, rows.extent[0]), rows, w_OI);
  });
}

template <class T>
void stacked_backward_input(MathHandles& math, Stream& s, const PartialRows<T>& dx_NI,
                            Ref<const T, 2> dy_NO,
                            const std::vector<StackedRows<const T>>& weights) {
  dx_NI.each([&](std::int64_t first, Ref<T, 2> rows) {
    stacked_backward_input<T>(math, s, rows, row_range(dy_NO, first, rows.extent[0]), weights);
  });
}

}  // namespace koios
