#include "kernels/math_handles.hpp"

#include "kernels/detail/gemm_host.hpp"
#include "kernels/detail/math_impl.hpp"

namespace koios {
namespace {

std::unique_ptr<MathHandles::Impl> make_impl(Backend backend, const MathOptions& options,
                                             Ref<std::byte, 1> workspace) {
  KOIOS_REQUIRE(workspace.size() >= MathHandles::gemm_workspace_bytes(backend),
                "GEMM workspace of ", workspace.size(), " bytes; needed are ",
                MathHandles::gemm_workspace_bytes(backend));
  if (backend == Backend::host) return detail::make_host_math(options, workspace);
  return detail::make_cuda_math(options, workspace);
}

}  // namespace

MathHandles::MathHandles(Backend backend, const MathOptions& options, Ref<std::byte, 1> workspace)
    : options_(options), impl_(make_impl(backend, options, workspace)) {}

MathHandles::~MathHandles() = default;

std::int64_t MathHandles::gemm_workspace_bytes(Backend backend) {
  if (backend == Backend::host) return detail::kHostGemmBytes;
  // cuBLASLt: 32 MiB is what NVIDIA advises for Hopper; split-K with float32 partial sums of the
  // weight gradients takes more.
  return std::int64_t{64} << 20;
}

}  // namespace koios
