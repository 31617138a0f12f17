// The host build's half of the seam to CUDA.
#include "kernels/detail/attention_cudnn.hpp"
#include "kernels/detail/attention_plan.hpp"
#include "kernels/detail/math_impl.hpp"

namespace koios::detail {

bool has_cudnn() { return true; }

std::int64_t AttentionCudnn::plans_bytes(const MathOptions&, const AttentionCall&) {
  throw UserError("this build has no CUDA: cuDNN cannot be asked");
}

std::vector<std::pair<std::string, std::string>> cuda_math_versions() { return {}; }

std::unique_ptr<MathHandles::Impl> make_cuda_math(const MathOptions&, Ref<std::byte, 1>) {
  throw UserError("this build has no CUDA: use the cuda preset, or job/backend = host");
}

}  // namespace koios::detail
