// Kokkos' threads for files that are plain C++: hot loops of the host backend keep the host
// compiler's vectoriser in a CUDA build too, and Kokkos stays the only pool of threads.
#pragma once

#include <cstdint>
#include <functional>

namespace koios::detail {

/// Runs body(i) for i in [0, count) on the host backend's threads, handed out one at a time in
/// order. body must not throw, and must not depend on which thread runs it.
void host_parallel_for(const char* label, std::int64_t count,
                       const std::function<void(std::int64_t)>& body);

/// Threads that host_parallel_for uses.
int host_concurrency();

}  // namespace koios::detail
