// The three matrix products of a linear layer y = x W^T, W of shape [out, in] as PyTorch and Meta
// store it. Inputs are bf16 or float; products accumulate in float32. Rows may have a pitch. And
// the one product of 8-bit matrices, of which all three can be made. Legend: N rows (tokens), I
// inputs, O outputs.
#pragma once

#include "core/ref.hpp"
#include "kernels/fp8.hpp"
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

/// An 8-bit matrix whose elements stand for values * scale.
template <class Q>
struct Fp8Matrix {
  Ref<const Q, 2> values;
  Ref<const float, 2> scale;  // the inverse of what the values were multiplied by
  Fp8ScaleKind kind = Fp8ScaleKind::matrix;
};

/// exact: sums are carried in float32. fast: on CUDA in the tensor cores' own registers, which keep
/// fewer bits (about 2e-3 of the result instead of 1e-4 over a sum of 8,192); not with pieces and
/// squares. The host always sums exactly.
enum class Accumulation { exact, fast };

/// c_MN (=|+=) a_MK b_NK^T. The kinds of a and b are the same, or pieces and squares; on CUDA rows
/// begin at multiples of 16 bytes and M, N, K are multiples of 16.
template <class C, class A, class B>
void fp8_product(MathHandles& math, Stream& s, Ref<C, 2> c_MN, const Fp8Matrix<A>& a_MK,
                 const Fp8Matrix<B>& b_NK, Write write, Accumulation accumulation);

}  // namespace koios
