// Root-mean-square normalisation: y = x * rstd(x) * w, rstd = 1 / sqrt(mean_D(x^2) + eps), all in
// float32. ref: Zhang & Sennrich 2019, eq. 4.
// Legend: N rows (tokens), D model dimension, P partial sums.
#pragma once

#include "core/ref.hpp"
#include "kernels/fp8.hpp"
#include "kernels/gemm.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// Whether y is rounded to T once, at the end, or x * rstd before it is multiplied by w, too, as
/// torchtitan's unfused norm does. One in float32.
enum class NormRounding { once, twice };

// amax, where it is not empty: one float that is raised to the largest magnitude of y, or of dx.

/// y = rmsnorm(x); rstd_N is saved for the backward pass. y may alias x.
template <class T>
void rmsnorm_forward(Stream& s, Ref<T, 2> y_ND, Ref<float, 1> rstd_N, Ref<const T, 2> x_ND,
                     Ref<const T, 1> w_D, float eps, NormRounding rounding = NormRounding::once,
                     Ref<float, 1> amax = {});

/// sum = x + residual (rounded to T), then y = rmsnorm(sum), in one pass. sum may alias x or
/// residual.
template <class T>
void add_rmsnorm_forward(Stream& s, Ref<T, 2> sum_ND, Ref<T, 2> y_ND, Ref<float, 1> rstd_N,
                         Ref<const T, 2> x_ND, Ref<const T, 2> residual_ND, Ref<const T, 1> w_D,
                         float eps, NormRounding rounding = NormRounding::once,
                         Ref<float, 1> amax = {});

/// The forward passes, cast at once, and then transposed: the bits of the above and of a cast with
/// transpose after them, but that infinities become NaN. y.q_NK is not empty, and does not alias x.
template <class T>
void rmsnorm_forward_to_fp8(Stream& s, const Fp8Output<fp8_e4m3>& y, Ref<float, 1> rstd_N,
                            Ref<const T, 2> x_ND, Ref<const T, 1> w_D, float eps,
                            NormRounding rounding);
template <class T>
void add_rmsnorm_forward_to_fp8(Stream& s, Ref<T, 2> sum_ND, const Fp8Output<fp8_e4m3>& y,
                                Ref<float, 1> rstd_N, Ref<const T, 2> x_ND,
                                Ref<const T, 2> residual_ND, Ref<const T, 1> w_D, float eps,
                                NormRounding rounding);

/// Rows of partial weight-gradient sums that the backward pass of a norm wants on a backend.
std::int64_t norm_backward_partials(Backend backend);

/// dx = dresidual + d rmsnorm / dx (dy); dw (=|+=) the weight's gradient, summed over N in a fixed
/// order through partial_PD. dx may alias dresidual, dy or x; an empty dresidual (null) counts as
/// 0.
template <class T>
void rmsnorm_backward(Stream& s, Ref<T, 2> dx_ND, Ref<float, 1> dw_D, Ref<float, 2> partial_PD,
                      Ref<const T, 2> dy_ND, Ref<const T, 2> dresidual_ND, Ref<const T, 2> x_ND,
                      Ref<const float, 1> rstd_N, Ref<const T, 1> w_D, Write write,
                      Ref<float, 1> amax = {});

}  // namespace koios
