// y = silu(gate) * up, silu(x) = x / (1 + exp(-x)). ref: Shazeer 2020, eq. 6 (SwiGLU).
// gate and up are the two halves of one GEMM's output [N, 2F]: gate first.
#pragma once

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

template <class T>
void swiglu_forward(Stream& s, Ref<T, 2> y_NF, Ref<const T, 2> gate_up_N2F);

/// d_gate_up (overwritten) from dy; may alias gate_up.
template <class T>
void swiglu_backward(Stream& s, Ref<T, 2> d_gate_up_N2F, Ref<const T, 2> dy_NF,
                     Ref<const T, 2> gate_up_N2F);

}  // namespace koios
