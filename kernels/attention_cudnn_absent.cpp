// A CUDA build without cuDNN: attention is the fallback, and nothing here is called.
#include "kernels/detail/attention_cudnn.hpp"
#include "kernels/detail/attention_plan.hpp"

namespace koios::detail {

struct AttentionCudnn::Impl {};

bool has_cudnn() { return false; }

AttentionCudnn::AttentionCudnn(const MathOptions&) {}
AttentionCudnn::~AttentionCudnn() = default;
std::int64_t AttentionCudnn::version() { return 0; }

std::int64_t AttentionCudnn::plans_bytes(const MathOptions&, const AttentionCall&) {
  KOIOS_REQUIRE(false, "this build has no cuDNN");
}
void AttentionCudnn::forward(Stream&, const AttentionCall&) {
  KOIOS_REQUIRE(false, "this build has no cuDNN");
}
void AttentionCudnn::backward(Stream&, const AttentionCall&) {
  KOIOS_REQUIRE(false, "this build has no cuDNN");
}

}  // namespace koios::detail
