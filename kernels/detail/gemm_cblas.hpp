// Matrix products of the host backend, on any CBLAS.
#pragma once

#include "core/ref.hpp"
#include "kernels/detail/math_impl.hpp"

namespace koios::detail {

/// Keeps BLAS to the calling thread. Its own pool would spin beside Kokkos' threads on the same
/// cores; instead each of Kokkos' threads calls BLAS for a part of the product.
void use_sequential_blas();

/// float as it is. bf16 through float blocks in `workspace`: CBLAS has no bf16, and on the host it
/// is there to be right, not fast.
void gemm_cblas(const Gemm& gemm, Ref<std::byte, 1> workspace);

}  // namespace koios::detail
