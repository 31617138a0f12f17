// What the forward pass leaves for the backward pass, and the scratch both share. The saved
// tensors of a block are named here and nowhere else: recomputation is a choice of what to keep.
// A tensor that is not kept lies in scratch that all blocks share, and is there again when the
// block's backward pass wants it.
// Legend: N tokens of a micro-batch (B*T), S = N / tp of them on this rank (the residual stream is
// sharded along the sequence), D model; this rank's share of: heads H and K, F ffn, V vocabulary,
// A = H E columns of attention's output, Q = (H + 2K) E columns of q|k|v; C tokens of one chunk of
// the head, P partial sums of a norm's weight gradient.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/ref.hpp"
#include "kernels/attention.hpp"
#include "model/llama_shapes.hpp"
#include "model/recompute.hpp"
#include "model/tensor_parallel.hpp"
#include "runtime/arena.hpp"

namespace koios {

/// Labels of the memory plan: what blocks keep, and what they share because they compute it again.
inline constexpr std::string_view kActivations = "activations";
inline constexpr std::string_view kRecomputed = "recomputed activations";

struct MicroBatchShape {
  std::int64_t batch_size = 0;  // B
  std::int64_t seq_len = 0;     // T
  bool document_mask = false;   // attention stays inside of documents

  std::int64_t tokens() const { return batch_size * seq_len; }
};

template <class T>
struct BlockSaved {
  Recompute recompute = Recompute::none;
  Ref<T, 2> x_SD;                  // residual stream into the block
  Ref<float, 1> rstd1_S, mean1_S;  // mean: of the layer norms
  Ref<T, 2> normed1_SD;            // into q|k|v
  Ref<T, 2> qkv_NQ;                // q and k already turned; with op_half instead the next two
  Ref<T, 2> qv_NQ;                 // q|v
  Ref<T, 2> k_NK;
  Ref<T, 2> attention_NA;  // heads' outputs, into wo
  Ref<float, 1> lse_BHT;
  Ref<T, 2> mid_SD;  // residual stream after attention
  Ref<float, 1> rstd2_S, mean2_S;
  Ref<T, 2> normed2_SD;    // into w1|w3
  Ref<T, 2> gate_up_N2F;   // with op_half only up is there
  Ref<T, 2> gate_NF;       // with op_half
  Ref<T, 2> activated_NF;  // into w2

  /// shared: another block of the same level, for what is not kept; null for the first.
  BlockSaved(Arena& arena, const LlamaShapes& model, const MicroBatchShape& batch,
             Recompute recompute, const BlockSaved* shared);
};

template <class T>
struct LlamaBuffers {
  std::vector<BlockSaved<T>> block;
  Ref<T, 2> x_SD;  // residual stream into the final norm
  Ref<float, 1> rstd_S, mean_S;
  Ref<T, 2> normed_SD;  // into the head
  Ref<float, 1> loss_N;

  Ref<T, 2> delta_SD;  // forward: what a sub-layer adds to the residual stream
  Ref<T, 2> dx_SD;     // backward: gradient of the residual stream
  Ref<T, 2> d_normed_SD;
  Ref<T, 2> d_attention_NA;
  Ref<T, 2> d_qkv_NQ;
  Ref<T, 2> d_activated_NF;
  Ref<T, 2> logits_CV;       // the whole vocabulary's where logits are gathered
  Ref<T, 1> logit_parts;     // the gathered columns, rank by rank
  Ref<float, 1> softmax_4C;  // statistics of rows whose columns the ranks share
  Ref<float, 2> norm_partial_PD;
  Ref<float, 2> rope_TE;
  Ref<std::byte, 1> attention_workspace;
  TensorParallelBuffers<T> tp;

  LlamaBuffers(Arena& arena, const LlamaShapes& model, const MicroBatchShape& batch,
               const MathOptions& math, const RecomputePolicy& recompute = {});
};

/// Tokens of one chunk of the head.
std::int64_t head_chunk(Backend backend, std::int64_t tokens);

AttentionShape attention_shape(const LlamaShapes& model, const MicroBatchShape& batch);

}  // namespace koios
