#include "runtime/backend.hpp"

#include "runtime/detail/cuda.hpp"

namespace koios {

std::string_view to_string(Backend backend) { return backend == Backend::host ? "host" : "cuda"; }

bool is_built_in(Backend backend) { return backend == Backend::host || cuda::is_built_in(); }

}  // namespace koios
