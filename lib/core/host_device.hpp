// Marks functions that run on the host and inside CUDA kernels.
// A macro because no language feature does it; in files that g++ compiles it is empty.
#pragma once

#if defined(__CUDACC__)
#define KOIOS_HOST_DEVICE __host__ __device__
#else
#define KOIOS_HOST_DEVICE
#endif
