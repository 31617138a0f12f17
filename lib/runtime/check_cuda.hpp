// Turns CUDA's error codes into exceptions with CUDA's own words. Only for files that use CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>

namespace koios {

/// `call`: the function's name, for the message.
void check_cuda(cudaError_t code, const char* call,
                std::source_location where = std::source_location::current());

}  // namespace koios
