// cuDNN's fused attention, bf16. A graph is built when a shape is first seen (tenths of a second)
// and kept.
#pragma once

#include <memory>

#include "kernels/detail/math_impl.hpp"

namespace koios::detail {

class AttentionCudnn {
 public:
  explicit AttentionCudnn(const MathOptions& options);
  ~AttentionCudnn();

  void forward(Stream& stream, const AttentionCall& call);
  void backward(Stream& stream, const AttentionCall& call);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace koios::detail
