// What the forward pass leaves for the backward pass, and the scratch both share. The saved
// tensors of a block are named here and nowhere else: recomputation is a choice of what to keep.
// A tensor that is not kept lies in scratch that all blocks share, and is there again when the
// block's backward pass wants it.
// Legend: N tokens of a micro-batch on this rank (B*T), S = N / tp of them on this rank (the
// residual stream is sharded along the sequence), D model; this rank's share of: heads H and K, F
// ffn, V vocabulary, A = H E columns of attention's output, Q = (H + 2K) E columns of q|k|v; C
// tokens of one chunk of the head, P partial sums of a norm's weight gradient.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/ref.hpp"
#include "kernels/fp8.hpp"
#include "model/context_attention.hpp"
#include "model/fp8_history.hpp"
#include "model/local_shape.hpp"
#include "model/recompute.hpp"
#include "model/tensor_parallel.hpp"
#include "runtime/arena.hpp"
#include "shard/layout.hpp"

namespace koios {

/// Labels of the memory plan: what blocks keep, and what they share because they compute it again.
inline constexpr std::string_view kActivations = "activations";
inline constexpr std::string_view kRecomputed = "recomputed activations";
inline constexpr std::string_view kBetweenStages = "activations between stages";

/// Of each row of a norm's input, for the backward pass; mean_S only where has_mean(norm).
struct RowStatistics {
  Ref<float, 1> rstd_S;
  Ref<float, 1> mean_S;
};

/// Whose rows of a tensor the amax is of, when the kernel that writes the tensor has run. Between
/// tensor-parallel ranks, which share some tensors by rows, their largest one counts.
enum class AmaxOf { nothing, own_rows, all_rows };

/// With FP8, by BlockLinear: the inputs of a block's linear layers as 8-bit values, turned for the
/// weight gradients, and their scales.
struct Fp8Saved {
  Fp8Recipe recipe = Fp8Recipe::none;
  bool fast_backward = false;  // Fp8Policy
  Ref<fp8_e4m3, 2> x_IN[kBlockLinears];
  Ref<float, 2> scale[kBlockLinears];
  Ref<float, 1> amax;  // tensorwise: of the inputs, then of the outputs' gradients
  AmaxOf amax_of[2 * kBlockLinears] = {};
  int first_in_history = -1;  // Fp8History has as many places from here on; -1: it has none
};

/// Which scales inputs and gradients have, and which weights.
Fp8ScaleKind fp8_token_scale(Fp8Recipe recipe);
Fp8ScaleKind fp8_weight_scale(Fp8Recipe recipe);

template <class T>
struct BlockSaved {
  Recompute recompute = Recompute::none;
  Ref<T, 2> x_SD;  // residual stream into the block
  RowStatistics rows1;
  Ref<T, 2> normed1_SD;      // into q|k|v
  Ref<T, 2> qkv_NQ;          // one product's output; with op_half q|v and k lie apart instead
  Ref<T, 2> q_NA, k_N, v_N;  // columns of it; q and k already turned
  Ref<T, 2> attention_NA;    // heads' outputs, into wo
  Ref<float, 1> lse_BHT;
  Ref<T, 2> mid_SD;  // residual stream after attention
  RowStatistics rows2;
  Ref<T, 2> normed2_SD;      // into w1|w3
  Ref<T, 2> gate_up_N2F;     // one product's output; with op_half gate lies apart from it
  Ref<T, 2> gate_NF, up_NF;  // columns of it
  Ref<T, 2> activated_NF;    // into w2
  Fp8Saved fp8;              // then normed1, normed2 and activated last only until they are cast

  /// shared: another block of the same level, for what is not kept; null for the first. before: the
  /// block before, with FP8, for what no block keeps. received: where x comes from another stage;
  /// null: it has a place of its own.
  BlockSaved(Arena& arena, const ModelSpec& model, const LocalShape& local, Recompute recompute,
             Fp8Recipe recipe, const BlockSaved* shared, const BlockSaved* before,
             const Ref<T, 2>* received);

  /// Whether q|k|v, and gate|up, are one product each.
  bool is_stacked() const { return recompute != Recompute::op_half; }
  bool is_fp8() const { return fp8.recipe != Fp8Recipe::none; }
  /// q|k|v of one product lie there from now on.
  void move_qkv(Ref<T, 2> place_NQ, const LocalShape& local);

 private:
  void take_qkv(Arena& arena, const LocalShape& local, const BlockSaved* shared);
  void take_gate_up(Arena& arena, const LocalShape& local, const BlockSaved* shared);
  void take_fp8(Arena& arena, const ModelSpec& model, const LocalShape& local,
                const BlockSaved* shared);
};

/// Gradients of a block's activations. backward_input reads out_SD and leaves x_SD, and with it all
/// that backward_weight needs: out_SD, gate_up_N2F, mid_SD and qkv_NQ. gate_up lies over what it is
/// the gradient of. Where the two are one pass, out, mid and x are one buffer, changed in place.
/// Where they are apart, all take the place of activations that backward_weight does not read, and
/// so no memory of their own: mid and x of their own block's, out of the next block's x (there it
/// is the gradient of x), and qkv changes places with the scratch it was written to.
template <class T>
struct BlockGradients {
  Ref<T, 2> out_SD;
  Ref<T, 2> gate_up_N2F;
  Ref<T, 2> mid_SD;
  Ref<T, 2> qkv_NQ;
  Ref<T, 2> x_SD;
  Ref<float, 1> x_amax{};  // wanted by the block before, in FP8; else empty
};

template <class T>
struct HeadSaved {
  Ref<T, 2> x_SD;  // residual stream into the final norm
  RowStatistics rows;
  Ref<T, 2> normed_SD;  // into the output projection
};

/// What one micro-batch in flight keeps on this stage.
template <class T>
struct StageSaved {
  std::vector<BlockSaved<T>> block;  // in the order of the stage's blocks
  HeadSaved<T> head;                 // empty where the stage has no head
  Ref<T, 2> dx_SD;                   // backward: gradient of the residual stream
  Ref<T, 2> d_in_SD;                 // out of the first block; dx_SD unless splits_backward
};

/// For 8-bit matrices of any shape up to the largest, with their scales.
template <class Q>
struct Fp8Room {
  Ref<Q, 1> values;
  Ref<float, 1> scale;
};

/// 8-bit operands of one linear layer at a time.
struct Fp8Scratch {
  Fp8Room<fp8_e4m3> x;
  Fp8Room<fp8_e5m2> dy, dy_turned;
  Fp8Room<fp8_e4m3> w, w_turned;  // w: with StageShape::casts_weights
  Ref<float, 1> amax;             // rowwise: of rows, then of columns
  Ref<std::int64_t, 1> counts;    // Fp8Count: since the start of the run
};

/// Free between two calls of the stage.
template <class T>
struct StageScratch {
  Ref<T, 2> delta_SD;  // what a sub-layer adds to the residual stream
  Ref<T, 2> d_normed_SD;
  Ref<T, 2> d_attention_NA;
  Ref<T, 2> d_qkv_NQ;
  Ref<T, 2> d_activated_NF;
  Ref<float, 1> loss_N;
  Ref<T, 2> logits_CV;       // the whole vocabulary's where logits are gathered
  Ref<T, 1> logit_parts;     // the gathered columns, rank by rank
  Ref<float, 1> softmax_4C;  // statistics of rows whose columns the ranks share
  Ref<float, 2> norm_partial_PD;
  Ref<float, 2> rope_TE;
  Ref<std::byte, 1> attention_workspace;
  Fp8Scratch fp8;
};

/// What a run of a stage's units, those that a micro-batch passes through in one visit, has of its
/// own.
struct RunShape {
  int slots = 1;   // micro-batches in flight
  int inputs = 0;  // residual streams received, being received or in flight; 0: with the embedding
  /// Residual streams on their way to another stage. 0: the run sends none, or it takes turns with
  /// the run before, which sends to the same stage.
  int outputs = 0;
};

/// What a stage is built from.
struct StageShape {
  ModelSpec model;
  TensorParallelOptions tensor;
  MicroBatchShape micro_batch;
  RecomputePolicy recompute;
  MathOptions math;
  /// In the layout's order, in which slots, inputs and outputs are numbered.
  std::vector<RunShape> runs = {{}};
  Fp8Policy fp8;               // of the blocks' linear layers
  bool casts_weights = false;  // with FP8: they come in the compute type
  /// backward_weight comes later than backward_input: wants Recompute::none.
  bool splits_backward = false;
  int scratch_factor = 0;  // reduce_scratch_factor of what tensor- and context-parallel ranks sum

  LocalShape local() const { return {model, tensor, micro_batch}; }
  int slots() const { return of_all_runs(&RunShape::slots); }
  int inputs() const { return of_all_runs(&RunShape::inputs); }
  int outputs() const { return of_all_runs(&RunShape::outputs); }

 private:
  int of_all_runs(int RunShape::*count) const;
};

template <class T>
struct StageBuffers {
  std::vector<Ref<T, 2>> input;   // each the x_SD of a slot's first block while in flight
  std::vector<Ref<T, 2>> output;  // what the next stage's input is to be
  std::vector<StageSaved<T>> slot;
  StageScratch<T> scratch;
  TensorParallelBuffers<T> tp;
  ContextBuffers<T> context;
  Fp8HistoryBuffers fp8_history;  // with Fp8ScalesOf::previous, else empty

  /// layout: which units the stage has.
  StageBuffers(Arena& arena, const StageShape& shape, const ShardLayout& layout);
};

/// Tokens of one chunk of the head.
std::int64_t head_chunk(Backend backend, std::int64_t tokens);

}  // namespace koios
