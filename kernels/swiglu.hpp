// y = silu(gate) * up, silu(x) = x / (1 + exp(-x)). ref: Shazeer 2020, eq. 6 (SwiGLU).
// Legend: N rows (tokens), F ffn.
#pragma once

#include "core/ref.hpp"
#include "kernels/fp8.hpp"
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

// Cast at once, by one scale that is known before: the bits of the kernels above and a cast with
// transpose (kernels/fp8.hpp) after them, but that infinities become NaN, as they do with a scale
// that is found anew. amax: one float that is raised to the largest magnitude of what was cast.

/// q_NF may be empty.
template <class T>
void swiglu_forward_to_fp8(Stream& s, Ref<fp8_e4m3, 2> q_NF, Ref<fp8_e4m3, 2> q_FN,
                           Ref<const T, 2> gate_NF, Ref<const T, 2> up_NF, const Fp8Scales& scales,
                           Ref<float, 1> amax, Ref<std::int64_t, 1> counts);

/// d_gate, then d_up, beside each other.
template <class T>
void swiglu_backward_to_fp8(Stream& s, Ref<fp8_e5m2, 2> d_gate_up_N2F,
                            Ref<fp8_e5m2, 2> d_gate_up_2FN, Ref<const T, 2> dy_NF,
                            Ref<const T, 2> gate_NF, Ref<const T, 2> up_NF, const Fp8Scales& scales,
                            Ref<float, 1> amax, Ref<std::int64_t, 1> counts);

/// swiglu_forward where gate and up are the two halves of one GEMM's output: gate first.
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
