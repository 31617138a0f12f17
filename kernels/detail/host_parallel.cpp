#include "kernels/detail/host_parallel.hpp"

#include <Kokkos_Core.hpp>

namespace koios::detail {

using Host = Kokkos::DefaultHostExecutionSpace;

void host_parallel_for(const char* label, std::int64_t count,
                       const std::function<void(std::int64_t)>& body) {
  using Policy =
      Kokkos::RangePolicy<Host, Kokkos::Schedule<Kokkos::Dynamic>, Kokkos::IndexType<std::int64_t>>;
  const auto* run = &body;
  Kokkos::parallel_for(label, Policy(Host(), 0, count, Kokkos::ChunkSize(1)),
                       [run](std::int64_t i) { (*run)(i); });
}

int host_concurrency() { return Host().concurrency(); }

}  // namespace koios::detail
