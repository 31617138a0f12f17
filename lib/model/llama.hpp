// The whole model on one rank: weights come gathered unit by unit, gradients leave unit by unit.
#pragma once

#include <cstdint>

#include "kernels/embedding.hpp"
#include "model/activations.hpp"
#include "model/block.hpp"
#include "shard/gradient_reduce.hpp"
#include "shard/weight_gather.hpp"

namespace koios {

/// One micro-batch in the backend's memory.
struct DeviceBatch {
  Ref<const std::int32_t, 1> token_N;
  Ref<const std::int32_t, 1> label_N;  // -1: does not count
  EmbeddingSort sort;
  Ref<const std::int32_t, 1> document_start_N;  // with MicroBatchShape::document_mask, else empty
};

template <class T>
class Llama {
 public:
  Llama(const LlamaShapes& shapes, const MicroBatchShape& batch, LlamaBuffers<T> buffers,
        MathHandles& math, Communicator& tensor, Stream& compute, Stream& exchange,
        ExposedWait& exposed);
  Llama(const Llama&) = delete;  // its blocks' context refers to members
  Llama& operator=(const Llama&) = delete;

  /// Each token's loss is left in losses(); gradients of loss_scale * (sum of losses) go to
  /// `gradients`. comm: all-gathers through `weights`, reduce-scatters through `gradients`; over
  /// the tensor-parallel group on the compute stream.
  void forward_backward(const DeviceBatch& batch, float loss_scale, int prefetch_blocks,
                        WeightGather<T>& weights, GradientReduce& gradients);

  /// Only the losses. comm: all-gathers through `weights`.
  void forward(const DeviceBatch& batch, int prefetch_blocks, WeightGather<T>& weights);

  Ref<const float, 1> losses() const { return buffers_.loss_N; }

 private:
  /// Of the embedding table's rows on this rank.
  std::int64_t first_token() const { return context_.tp.rank() * shapes_.vocab_here(); }
  /// From the tokens to what the head works on.
  void forward_body(const DeviceBatch& batch, int prefetch_blocks, WeightGather<T>& weights);
  void forward_blocks(int prefetch_blocks, WeightGather<T>& weights);
  void backward_blocks(int prefetch_blocks, WeightGather<T>& weights, GradientReduce& gradients);
  /// What block `layer` does not keep, unless the forward pass has just left it there.
  void recompute(int layer, const UnitView<const T>& weights);
  BlockSaved<T>& saved(int layer) { return buffers_.block[static_cast<std::size_t>(layer)]; }
  /// The residual stream that the unit after block `layer` adds delta to.
  Ref<const T, 2> stream_after(int layer) const {
    return buffers_.block[static_cast<std::size_t>(layer)].mid_SD;
  }

  LlamaShapes shapes_;
  LlamaBuffers<T> buffers_;
  Stream& compute_;
  int in_scratch_ = -1;  // the block whose recomputed activations the shared scratch holds
  BlockContext<T> context_;
};

}  // namespace koios
