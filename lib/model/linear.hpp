// A linear layer whose weight may be several parameters stacked by rows (q|k|v, gate|up): one GEMM
// for each contiguous piece, each producing or consuming its own columns.
#pragma once

#include <vector>

#include "kernels/gemm.hpp"
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

}  // namespace koios
