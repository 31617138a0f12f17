#include "kernels/detail/attention_host.hpp"
#include "kernels/detail/gemm_host.hpp"
#include "kernels/detail/math_impl.hpp"

namespace koios::detail {
namespace {

class HostMath : public MathHandles::Impl {
 public:
  explicit HostMath(Ref<std::byte, 1> workspace) : workspace_(workspace) {}

  // A host kernel runs at once, after the communication that its stream still has to complete.
  void gemm(Stream& stream, const Gemm& gemm) override {
    stream.synchronize();
    gemm_host(gemm, workspace_);
  }
  void attention_forward(Stream& stream, const AttentionCall& call) override {
    stream.synchronize();
    attention_host_forward(call);
  }
  void attention_backward(Stream& stream, const AttentionCall& call) override {
    stream.synchronize();
    attention_host_backward(call);
  }

 private:
  Ref<std::byte, 1> workspace_;
};

}  // namespace

std::unique_ptr<MathHandles::Impl> make_host_math(const MathOptions&, Ref<std::byte, 1> workspace) {
  return std::make_unique<HostMath>(workspace);
}

}  // namespace koios::detail
