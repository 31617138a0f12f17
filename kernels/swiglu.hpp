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

// Cast at once: the bits of the kernels above and of a cast with transpose (kernels/fp8.hpp) after
// them, but that infinities become NaN, as they do with a scale that is found anew.

template <class T>
void swiglu_forward_to_fp8(Stream& s, const Fp8Output<fp8_e4m3>& y, Ref<const T, 2> gate_NF,
                           Ref<const T, 2> up_NF);
/// d_gate, then d_up, beside each other; not empty.
template <class T>
void swiglu_backward_to_fp8(Stream& s, const Fp8Output<fp8_e5m2>& d_gate_up, Ref<const T, 2> dy_NF,
                            Ref<const T, 2> gate_NF, Ref<const T, 2> up_NF);

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
