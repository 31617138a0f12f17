// One transformer block, forward and backward: it reads as the paper's figure.
//   mid = x + wo(attention(rope(wq|wk|wv norm(x))))        out = mid + w2(swiglu(w1|w3 norm(mid)))
// ref: Touvron et al. 2023 (Llama 2), section 2.2.
// The addition of one sub-layer's output and the next norm are one kernel, so a block takes the
// residual stream as a sum not yet formed (previous + delta) and leaves its own output so
// (mid + delta).
#pragma once

#include "core/error.hpp"
#include "kernels/gemm.hpp"
#include "model/activations.hpp"
#include "model/numerics_check.hpp"
#include "shard/unit_view.hpp"

namespace koios {

/// What every unit computes with.
template <class T>
struct StageContext {
  const ModelSpec& model;
  const LocalShape& local;
  const TensorParallelOptions& tensor;
  MathHandles& math;
  Stream& stream;
  StageScratch<T>& scratch;
  TensorParallel<T>& tp;
  ContextAttention<T>& attention;
  Documents documents{};              // of the batch at work, with the mask
  Fp8History* fp8_history = nullptr;  // with Fp8ScalesOf::previous
  NumericsCheck* numerics = nullptr;  // with job/check_numerics

  /// What an operation has made; by the names in the messages.
  template <class U, int R>
  void made(const char* operation, const char* tensor, Ref<U, R> x) const {
    if (numerics != nullptr) numerics->result(stream, operation, tensor, Ref<const U, R>(x));
  }
  /// The same where it was cast at once: 8 bits hold no infinity, but the largest magnitude does.
  template <class Q>
  void made(const char* operation, const char* tensor, const Fp8Output<Q>& x) const {
    if (numerics == nullptr) return;
    numerics->result(stream, operation, cat("the largest magnitude of ", tensor),
                     Ref<const float, 1>(x.amax));
  }
};

/// In: the residual stream as previous_SD + delta_SD (previous null: v.x_SD already holds it).
/// Out: v, and delta_SD, which v.mid_SD is still to be added to.
template <class T>
void block_forward(StageContext<T>& c, BlockSaved<T>& v, Ref<const T, 2> previous_SD,
                   Ref<T, 2> delta_SD, const UnitView<const T>& w);

/// Computes again what block_forward did and `v` does not keep; delta_SD is scratch. Collectives of
/// the recomputed part are issued again.
template <class T>
void block_recompute(StageContext<T>& c, BlockSaved<T>& v, Ref<T, 2> delta_SD,
                     const UnitView<const T>& w);

/// The gradients of a block's matrices, each from its layer's input and the gradient of its output.
template <class T>
class BlockWeightGradients {
 public:
  BlockWeightGradients(StageContext<T>& c, const BlockSaved<T>& v, const BlockGradients<T>& d,
                       const UnitView<float>& g, Write write)
      : c_(c), v_(v), d_(d), g_(g), write_(write) {}

  void w2(Ref<const T, 2> d_out_ND) const;
  void w1_w3(Ref<const T, 2> normed2_ND) const;
  void wo(Ref<const T, 2> d_mid_ND) const;
  void wq_wk_wv(Ref<const T, 2> normed1_ND) const;

 private:
  StageContext<T>& c_;
  const BlockSaved<T>& v_;
  const BlockGradients<T>& d_;
  UnitView<float> g_;
  Write write_;
};

/// From d.out_SD to d.x_SD; gradients of the norms' weights go to `g`. weights: forms the matrices'
/// gradients at once, while their operands are at hand; null leaves them to block_backward_weight.
template <class T>
void block_backward_input(StageContext<T>& c, BlockSaved<T>& v, const BlockGradients<T>& d,
                          const UnitView<const T>& w, const UnitView<float>& g, Write write,
                          const BlockWeightGradients<T>* weights);

/// The matrices' gradients, at any time after block_backward_input, while v and d last.
template <class T>
void block_backward_weight(StageContext<T>& c, BlockSaved<T>& v, const BlockGradients<T>& d,
                           const BlockWeightGradients<T>& weights);

}  // namespace koios
