// Two calls whose signatures CUDA 13 replaced, in the form that Kokkos before 4.7.1 still uses.
// Force-included (-include) into CUDA translation units that see such a Kokkos, and only into
// those; a newer Kokkos needs nothing. See KoiosDependencies.cmake.
#pragma once

#include <cuda_runtime_api.h>

#if CUDART_VERSION >= 13000
inline cudaError_t cudaGraphAddDependencies(cudaGraph_t graph, const cudaGraphNode_t* from,
                                            const cudaGraphNode_t* to, size_t count) {
  return cudaGraphAddDependencies(graph, from, to, nullptr, count);
}

inline cudaError_t cudaMemPrefetchAsync(const void* pointer, size_t bytes, int device,
                                        cudaStream_t stream) {
  cudaMemLocation location{};
  location.type = device == cudaCpuDeviceId ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
  location.id = device == cudaCpuDeviceId ? 0 : device;
  return cudaMemPrefetchAsync(pointer, bytes, location, 0, stream);
}
#endif
