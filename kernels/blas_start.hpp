// What BLAS does before main.
#pragma once

namespace koios {

/// OpenBLAS starts threads as it is loaded, each of which takes 128 MiB of address space and asks
/// for them without end: under a limit (ulimit -v) the next fork or the end of the process waits
/// for them for ever. Koios uses none of them, so under a limit the program starts itself again
/// with OPENBLAS_NUM_THREADS = 1, unless that is set. To be called first, as nothing survives it.
void keep_blas_threads_from_starting(char** argv);

}  // namespace koios
