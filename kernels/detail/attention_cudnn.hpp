// cuDNN's fused attention, bf16. A graph is built when a shape is first seen (tenths of a second)
// and kept; numbers of documents are rounded up to powers of two, so that there are few.
#pragma once

#include <memory>

#include "kernels/detail/math_impl.hpp"

namespace koios::detail {

class AttentionCudnn {
 public:
  explicit AttentionCudnn(const MathOptions& options);
  ~AttentionCudnn();

  /// 91900 is 9.19.0; 0 without cuDNN.
  static std::int64_t version();

  /// What the plans of both passes want as workspace, on this thread's GPU; of a call of the
  /// backward pass, whose memory may be null. With documents: for any number of them up to
  /// DocumentTables::kMostDocuments.
  static std::int64_t plans_bytes(const MathOptions& options, const AttentionCall& backward);

  void forward(Stream& stream, const AttentionCall& call);
  void backward(Stream& stream, const AttentionCall& call);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace koios::detail
