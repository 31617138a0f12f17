// Layer normalisation without bias: y = (x - mean_D(x)) * rstd * w with
// rstd = 1 / sqrt(mean_D((x - mean)^2) + eps), all in float32, rounded once. An empty w (null)
// counts as ones and has no gradient. ref: Ba, Kiros & Hinton 2016, eq. 4.
// Legend: N rows (tokens), D model dimension, P partial sums.
#pragma once

#include "core/ref.hpp"
#include "kernels/gemm.hpp"
#include "runtime/stream.hpp"

namespace koios {

// amax, where it is not empty: one float that is raised to the largest magnitude of y, or of dx.

/// y = layernorm(x); mean_N and rstd_N are saved for the backward pass. y may alias x.
template <class T>
void layernorm_forward(Stream& s, Ref<T, 2> y_ND, Ref<float, 1> mean_N, Ref<float, 1> rstd_N,
                       Ref<const T, 2> x_ND, Ref<const T, 1> w_D, float eps,
                       Ref<float, 1> amax = {});

/// sum = x + residual (rounded to T), then y = layernorm(sum), in one pass. sum may alias x or
/// residual.
template <class T>
void add_layernorm_forward(Stream& s, Ref<T, 2> sum_ND, Ref<T, 2> y_ND, Ref<float, 1> mean_N,
                           Ref<float, 1> rstd_N, Ref<const T, 2> x_ND, Ref<const T, 2> residual_ND,
                           Ref<const T, 1> w_D, float eps, Ref<float, 1> amax = {});

/// dx = dresidual + d layernorm / dx (dy); dw (=|+=) the weight's gradient, summed over N in a
/// fixed order through partial_PD of norm_backward_partials(). dx may alias dresidual, dy or x; an
/// empty dresidual (null) counts as 0.
template <class T>
void layernorm_backward(Stream& s, Ref<T, 2> dx_ND, Ref<float, 1> dw_D, Ref<float, 2> partial_PD,
                        Ref<const T, 2> dy_ND, Ref<const T, 2> dresidual_ND, Ref<const T, 2> x_ND,
                        Ref<const float, 1> mean_N, Ref<const float, 1> rstd_N, Ref<const T, 1> w_D,
                        Write write, Ref<float, 1> amax = {});

}  // namespace koios
