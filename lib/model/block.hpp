// One transformer block, forward and backward: it reads as the paper's figure.
//   mid = x + wo(attention(rope(wq|wk|wv norm(x))))        out = mid + w2(swiglu(w1|w3 norm(mid)))
// ref: Touvron et al. 2023 (Llama 2), section 2.2.
// The addition of one sub-layer's output and the next norm are one kernel, so the block takes the
// residual stream as a sum not yet formed (`previous` + `delta`) and leaves its own output so.
#pragma once

#include "kernels/gemm.hpp"
#include "model/activations.hpp"
#include "shard/unit_view.hpp"

namespace koios {

/// What every block computes with.
template <class T>
struct BlockContext {
  const LlamaShapes& model;
  AttentionShape attention;
  MathHandles& math;
  Stream& stream;
  LlamaBuffers<T>& buffers;
  TensorParallel<T> tp;
  Ref<const std::int32_t, 1> document_start_N{};  // of the batch at work, with the mask
};

/// Forms saved.x_SD = previous + buffers.delta (previous null: saved.x_SD already holds the
/// input), leaves saved.mid_SD and this block's contribution in buffers.delta_SD.
template <class T>
void block_forward(BlockContext<T>& c, BlockSaved<T>& saved, Ref<const T, 2> previous_SD,
                   const UnitView<const T>& weights);

/// Computes again what block_forward did and `saved` does not keep; all but buffers.delta_SD is
/// then as the forward pass left it. Collectives of the recomputed part are issued again.
template <class T>
void block_recompute(BlockContext<T>& c, BlockSaved<T>& saved, const UnitView<const T>& weights);

/// In: buffers.dx_SD = gradient of the block's output. Out: buffers.dx_SD = gradient of its input.
/// Parameter gradients go to `gradients`, in float32.
template <class T>
void block_backward(BlockContext<T>& c, BlockSaved<T>& saved, const UnitView<const T>& weights,
                    const UnitView<float>& gradients, Write write);

}  // namespace koios
