// OpenBLAS before 0.3.22 does not know the newest processors and falls back to kernels of 2004.
#pragma once

namespace koios {

/// Where OpenBLAS took its slowest kernels on a processor with AVX2 or AVX-512, starts this program
/// again with OPENBLAS_CORETYPE set, which the library reads when it is loaded. Must come before
/// MPI_Init. Returns where nothing is to be mended.
void restart_with_fast_blas(char** argv);

}  // namespace koios
