// Matrix products of the cuda backend: cuBLASLt, float32 accumulation, no TF32. The algorithm of a
// product is chosen when its shape is first seen and kept.
//   default        candidates are timed on the operands themselves, with the output going to a
//                  temporary buffer, so the real output is written once whatever is tried
//   deterministic  cuBLASLt's own first choice, which depends on nothing but shape, library and GPU
// Either way split-K sums go through float32 partial sums in the workspace, in a fixed order: a
// given algorithm gives the same bits every time.
#pragma once

#include <cublasLt.h>

#include <map>
#include <memory>

#include "core/unwinding.hpp"
#include "kernels/detail/gemm_choices.hpp"
#include "kernels/detail/math_impl.hpp"
#include "runtime/handle.hpp"

namespace koios::detail {

/// Not under an exception: destroying waits for the device, which may wait for a rank that is gone.
inline void close_cublaslt(cublasLtHandle_t handle) {
  if (!is_unwinding()) cublasLtDestroy(handle);
}
using CublasLtHandle = Handle<cublasLtHandle_t, &close_cublaslt>;

class GemmCublasLt {
 public:
  GemmCublasLt(const MathOptions& options, Ref<std::byte, 1> workspace);
  ~GemmCublasLt();

  void run(Stream& stream, const Gemm& gemm);

 private:
  struct Product;

  Product& product(Stream& stream, const Gemm& gemm);
  std::unique_ptr<Product> make_product(Stream& stream, const Gemm& gemm, const GemmKey& key);
  cublasLtMatmulAlgo_t choose(Stream& stream, const Gemm& gemm, const GemmKey& key,
                              const Product& product);

  MathOptions options_;
  Ref<std::byte, 1> workspace_;
  CublasLtHandle handle_;
  GemmChoices choices_;
  bool is_hot_ = false;  // algorithms were timed a moment ago
  std::map<GemmKey, std::unique_ptr<Product>> products_;
};

}  // namespace koios::detail
