// Matrix products of the host backend, on any CBLAS.
#pragma once

#include "core/ref.hpp"
#include "kernels/detail/math_impl.hpp"

namespace koios::detail {

/// Keeps BLAS to the calling thread: its own pool would spin beside Kokkos' threads on the same
/// cores, so instead each of Kokkos' threads calls BLAS for a part of the product. And sees to it
/// that OpenBLAS uses the processor it runs on.
void prepare_blas();

/// float as it is. bf16 and 8-bit types through float blocks in `workspace`: CBLAS does not have
/// them, and on the host they are there to be right, not fast.
void gemm_cblas(const Gemm& gemm, Ref<std::byte, 1> workspace);

}  // namespace koios::detail
