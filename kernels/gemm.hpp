// The three matrix products of a linear layer y = x W^T, W of shape [out, in] as PyTorch and Meta
// store it. Inputs are bf16 or float; products accumulate in float32. Rows may have a pitch.
// Legend: N rows (tokens), I inputs, O outputs.
#pragma once

#include "core/ref.hpp"
#include "kernels/math_handles.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// Whether a product replaces its output or is added to it.
enum class Write { overwrite, accumulate };

/// y_NO (=|+=) x_NI w_OI^T
template <class T>
void linear_forward(MathHandles& math, Stream& s, Ref<T, 2> y_NO, Ref<const T, 2> x_NI,
                    Ref<const T, 2> w_OI, Write write = Write::overwrite);

/// dx_NI (=|+=) dy_NO w_OI
template <class T>
void linear_backward_input(MathHandles& math, Stream& s, Ref<T, 2> dx_NI, Ref<const T, 2> dy_NO,
                           Ref<const T, 2> w_OI, Write write = Write::overwrite);

/// dw_OI (=|+=) dy_NO^T x_NI, written in float32.
template <class T>
void linear_backward_weight(MathHandles& math, Stream& s, Ref<float, 2> dw_OI,
                            Ref<const T, 2> dy_NO, Ref<const T, 2> x_NI, Write write);

}  // namespace koios
