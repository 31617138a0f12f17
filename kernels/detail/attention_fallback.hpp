// Attention of the cuda backend from matrix products and softmax kernels, for what cuDNN does not
// do. Queries go in chunks, so the score matrices stay within a fixed workspace; keys after a
// chunk's last query are never touched. Deterministic.
#pragma once

#include "kernels/detail/gemm_cublaslt.hpp"
#include "kernels/detail/math_impl.hpp"

namespace koios::detail {

void attention_fallback_forward(GemmCublasLt& gemms, Stream& stream, const AttentionCall& call);
void attention_fallback_backward(GemmCublasLt& gemms, Stream& stream, const AttentionCall& call);

}  // namespace koios::detail
