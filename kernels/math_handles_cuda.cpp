#include "kernels/detail/attention_cudnn.hpp"
#include "kernels/detail/attention_fallback.hpp"
#include "kernels/detail/attention_plan.hpp"
#include "kernels/detail/gemm_cublaslt.hpp"
#include "kernels/detail/math_impl.hpp"

namespace koios::detail {
namespace {

class CudaMath : public MathHandles::Impl {
 public:
  CudaMath(const MathOptions& options, Ref<std::byte, 1> workspace)
      : options_(options), gemms_(options, workspace), cudnn_(options) {}

  void gemm(Stream& stream, const Gemm& gemm) override { gemms_.run(stream, gemm); }

  void attention_forward(Stream& stream, const AttentionCall& call) override {
    if (goes_to_cudnn(call)) {
      cudnn_.forward(stream, call);
    } else {
      attention_fallback_forward(gemms_, stream, call);
    }
  }
  void attention_backward(Stream& stream, const AttentionCall& call) override {
    if (goes_to_cudnn(call)) {
      cudnn_.backward(stream, call);
    } else {
      attention_fallback_backward(gemms_, stream, call);
    }
  }

 private:
  /// The same for both passes of a batch.
  bool goes_to_cudnn(const AttentionCall& call) const {
    if (!uses_cudnn(options_, call.shape, size_of(call.dtype))) return false;
    return !call.shape.document_mask || call.documents.count() <= DocumentTables::kMostDocuments;
  }

  MathOptions options_;
  GemmCublasLt gemms_;
  AttentionCudnn cudnn_;
};

}  // namespace

std::unique_ptr<MathHandles::Impl> make_cuda_math(const MathOptions& options,
                                                  Ref<std::byte, 1> workspace) {
  return std::make_unique<CudaMath>(options, workspace);
}

std::vector<std::pair<std::string, std::string>> cuda_math_versions() {
  std::vector<std::pair<std::string, std::string>> versions{
      {"cuBLASLt", std::to_string(cublasLtGetVersion())}};
  if (has_cudnn()) versions.emplace_back("cuDNN", std::to_string(AttentionCudnn::version()));
  return versions;
}

}  // namespace koios::detail
