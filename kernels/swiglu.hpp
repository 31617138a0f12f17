// y = silu(gate) * up, silu(x) = x / (1 + exp(-x)). ref: Shazeer 2020, eq. 6 (SwiGLU).
// Legend: N rows (tokens), F ffn.
#pragma once

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

// amax, where it is not empty: one float that is raised to the largest magnitude of what is
// written.

template <class T>
void swiglu_forward(Stream& s, Ref<T, 2> y_NF, Ref<const T, 2> gate_NF, Ref<const T, 2> up_NF,
                    Ref<float, 1> amax = {});

/// d_gate and d_up (overwritten) from dy; they may alias gate and up.
template <class T>
void swiglu_backward(Stream& s, Ref<T, 2> d_gate_NF, Ref<T, 2> d_up_NF, Ref<const T, 2> dy_NF,
                     Ref<const T, 2> gate_NF, Ref<const T, 2> up_NF, Ref<float, 1> amax = {});

/// The same where gate and up are the two halves of one GEMM's output: gate first.
template <class T>
void swiglu_forward(Stream& s, Ref<T, 2> y_NF, Ref<const T, 2> gate_up_N2F) {
  const std::int64_t half = gate_up_N2F.extent[1] / 2;
  swiglu_forward<T>(s, y_NF, column_range(gate_up_N2F, 0, half),
                    column_range(gate_up_N2F, half, half));
}

template <class T>
void swiglu_backward(Stream& s, Ref<T, 2> d_gate_up_N2F, Ref<const T, 2> dy_NF,
                     Ref<const T, 2> gate_up_N2F) {
  const std::int64_t half = gate_up_N2F.extent[1] / 2;
  swiglu_backward<T>(s, column_range(d_gate_up_N2F, 0, half),
                     column_range(d_gate_up_N2F, half, half), dy_NF,
                     column_range(gate_up_N2F, 0, half), column_range(gate_up_N2F, half, half));
}

}  // namespace koios
