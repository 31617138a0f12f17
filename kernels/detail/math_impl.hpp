// What a backend provides behind MathHandles, with element types at run time: one implementation
// of our own kernels (host), one on cuBLASLt and cuDNN (CUDA). Private to kernels/.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.hpp"
#include "core/ref.hpp"
#include "kernels/attention.hpp"
#include "kernels/gemm.hpp"
#include "kernels/math_handles.hpp"
#include "runtime/stream.hpp"

namespace koios::detail {

/// A row-major matrix of a run-time type.
struct Matrix {
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t pitch = 0;
  DType dtype = DType::float32;
};

template <class T>
Matrix matrix(Ref<T, 2> r) {
  return {r.data, r.extent[0], r.extent[1], r.pitch, dtype_of<T>};
}

/// What the elements of an 8-bit operand are to be multiplied by, in the backend's memory.
struct OperandScale {
  Fp8ScaleKind kind = Fp8ScaleKind::matrix;
  const float* data = nullptr;
  std::int64_t pitch = 0;
};

/// c (=|+=) scale * op(a) op(b), for each of `batch` products whose operands lie `stride` elements
/// apart. Accumulates in float32. 8-bit operands are a, not transposed, and b, transposed, with
/// their scales, both of one kind or of pieces and squares.
struct Gemm {
  struct Operand {
    Matrix matrix;  // as stored, before any transposition
    bool transposed = false;
    std::int64_t stride = 0;
    OperandScale scale{};  // of 8-bit types
  };
  Operand a, b, c;  // c is written and never transposed
  bool accumulate = false;
  float scale = 1;
  std::int64_t batch = 1;
  bool fast_accumulation = false;  // of 8-bit types
  bool tune = true;  // worth timing candidates for: a product of the model, at few shapes
};

/// The operands of both passes; data is null for what a pass does not have.
struct AttentionCall {
  AttentionShape shape{};
  DType dtype = DType::float32;
  Matrix q{}, k{}, v{}, o{}, d_o{}, dq{}, dk{}, dv{};
  float* lse_BHT = nullptr;
  Documents documents{};
  Ref<std::byte, 1> workspace{};
};

}  // namespace koios::detail

namespace koios {

struct MathHandles::Impl {
  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  virtual ~Impl() = default;

  virtual void gemm(Stream& stream, const detail::Gemm& gemm) = 0;
  virtual void attention_forward(Stream& stream, const detail::AttentionCall& call) = 0;
  virtual void attention_backward(Stream& stream, const detail::AttentionCall& call) = 0;
};

}  // namespace koios

namespace koios::detail {

std::unique_ptr<MathHandles::Impl> make_host_math(const MathOptions& options,
                                                  Ref<std::byte, 1> workspace);
/// In a host build: throws UserError.
std::unique_ptr<MathHandles::Impl> make_cuda_math(const MathOptions& options,
                                                  Ref<std::byte, 1> workspace);

/// cuBLASLt's and cuDNN's, as far as they are in this build.
std::vector<std::pair<std::string, std::string>> cuda_math_versions();

}  // namespace koios::detail
