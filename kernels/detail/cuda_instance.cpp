#include <cuda_runtime_api.h>

#include <Kokkos_Core.hpp>
#include <mutex>
#include <unordered_map>

#include "kernels/detail/launch.hpp"

namespace koios::detail {
namespace {

/// By stream handle. A handle that CUDA hands out again after its stream is gone still fits: the
/// instance holds nothing of the old stream but the handle. Emptied when Kokkos ends.
struct Instances {
  std::mutex mutex;
  std::unordered_map<cudaStream_t, Kokkos::Cuda> of_stream;
};

Instances& instances() {
  static auto* const all = [] {
    Kokkos::push_finalize_hook([] {
      const std::lock_guard lock(instances().mutex);
      instances().of_stream.clear();
    });
    return new Instances;  // never destroyed: no order of destruction to get wrong
  }();
  return *all;
}

}  // namespace

const Kokkos::Cuda& cuda_instance(const Stream& s) {
  auto* const stream = static_cast<cudaStream_t>(s.native());
  auto& all = instances();
  const std::lock_guard lock(all.mutex);
  const auto found = all.of_stream.find(stream);
  if (found != all.of_stream.end()) return found->second;
  return all.of_stream.emplace(stream, Kokkos::Cuda(stream)).first->second;
}

}  // namespace koios::detail
