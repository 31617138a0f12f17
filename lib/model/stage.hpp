// A stage: the runs of units that one rank computes, unit by unit. What is done in which order is
// the step's list of actions (pipeline/actions.hpp); weights come gathered, gradients leave by the
// caller. Micro-batches in flight have a slot each; all else is free between two calls.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/embedding.hpp"
#include "model/activations.hpp"
#include "model/block.hpp"

namespace koios {

/// One micro-batch in the backend's memory.
struct DeviceBatch {
  Ref<const std::int32_t, 1> token_N;
  Ref<const std::int32_t, 1> label_N;  // -1: does not count
  EmbeddingSort sort;
  Documents documents;  // with MicroBatchShape::document_mask, else empty
};

/// Where a unit's parameter gradients go, in float32.
struct GradientOutput {
  UnitView<float> view;
  Write write;
};

template <class T>
class Stage {
 public:
  /// layout: which units the stage has; outlives it.
  Stage(const StageShape& shape, const ShardLayout& layout, StageBuffers<T> buffers,
        MathHandles& math, Communicator& tensor, const ContextGroups& context, Stream& compute,
        Stream& exchange, ExposedWaits& exposed);
  Stage(const Stage&) = delete;  // its units' context refers to members
  Stage& operator=(const Stage&) = delete;

  /// Looks at every result from now on; null: at none.
  void check_with(NumericsCheck* check) { context_.numerics = check; }

  /// What the calls for this slot work on until the next one.
  void set_batch(int slot, const DeviceBatch& batch) { this->batch(slot) = batch; }
  void set_batch_of(int slot, int other_slot) { batch(slot) = batch(other_slot); }

  // Units are called in the order of the model, forward, and against it, backward, each with its
  // own weights. comm: over the tensor-parallel group, on the compute stream.

  /// The embedding or a block.
  void forward(int unit, int slot, const UnitView<const T>& weights);
  /// The head: each token's loss is left in losses(), and the gradient of loss_scale * (sum of
  /// losses) with respect to its input in the slot.
  void forward_backward_head(int unit, int slot, float loss_scale, const UnitView<const T>& weights,
                             const GradientOutput& gradients);
  /// The head: only losses().
  void evaluate_head(int unit, int slot, const UnitView<const T>& weights);
  /// What the block does not keep, from what it keeps.
  void recompute(int unit, int slot, const UnitView<const T>& weights);
  /// The gradients of a block's parameters and of its input.
  void backward(int unit, int slot, const UnitView<const T>& weights,
                const GradientOutput& gradients);
  /// With StageShape::splits_backward: all but the gradients of its matrices; and these, for whole
  /// micro-batches at a time, while the slot is still this one's.
  void backward_input(int unit, int slot, const UnitView<const T>& weights,
                      const GradientOutput& gradients);
  void backward_weight(int unit, int slot, const GradientOutput& gradients);
  void backward_embedding(int slot, const GradientOutput& gradients);

  // Between runs of units, of this stage and others. A slot belongs to a run; its first block takes
  // the residual stream where it was received or handed over.

  Ref<T, 2> input(int number) const { return buffers_.input[index(number)]; }
  Ref<T, 2> output(int number) const { return buffers_.output[index(number)]; }
  void set_input(int slot, int number) { saved(slot).block.front().x_SD = input(number); }
  /// The residual stream out of the run's last block, summed.
  void form_output(int slot, Ref<T, 2> out_SD);
  /// The gradient of the residual stream: into the last block before its backward pass, and out of
  /// the first one after it.
  Ref<T, 2> output_gradient(int slot) const { return buffers_.slot[index(slot)].dx_SD; }
  Ref<T, 2> input_gradient(int slot) const { return buffers_.slot[index(slot)].d_in_SD; }
  /// With StageShape::splits_backward: the input's gradient of a slot becomes the output's of the
  /// same micro-batch's slot on the run before. Nothing is copied, their places are exchanged.
  void hand_back(int slot, int slot_before) {
    std::swap(saved(slot).d_in_SD, saved(slot_before).dx_SD);
  }

  /// Fp8Count: since the start, or since they were forgotten; empty without FP8.
  Ref<const std::int64_t, 1> fp8_counts() const { return buffers_.scratch.fp8.counts; }
  void forget_fp8_counts();

  // With Fp8ScalesOf::previous, else nothing: around the micro-batches of a step. grad_norm: 1
  // float.
  void begin_fp8_step();
  void end_fp8_step(Ref<const float, 1> grad_norm);

  Ref<const float, 1> losses() const { return buffers_.scratch.loss_N; }

 private:
  static std::size_t index(int slot) { return static_cast<std::size_t>(slot); }
  StageSaved<T>& saved(int slot) { return buffers_.slot[index(slot)]; }
  DeviceBatch& batch(int slot) { return batch_[index(slot)]; }
  /// For calls that work on this slot.
  StageContext<T>& context(int slot);
  void remember_fp8();
  /// The k-th block of a run is at position k.
  std::size_t position(int unit) const;
  BlockSaved<T>& block(int unit, int slot) { return saved(slot).block[position(unit)]; }
  /// The residual stream to which the unit after this block adds delta; null: it is formed already.
  Ref<const T, 2> stream_before(int unit, int slot);
  /// Of the embedding table's rows on this rank.
  std::int64_t first_token() const { return context_.tp.rank() * local_.vocab; }
  BlockGradients<T> gradients_of(int unit, int slot);
  /// Wanted by the first `blocks` blocks of the slot, in FP8, of the gradient of what they make.
  Ref<float, 1> amax_before(int slot, std::size_t blocks);

  StageShape shape_;
  LocalShape local_;
  const ShardLayout& layout_;
  StageBuffers<T> buffers_;
  std::vector<int> position_;       // by unit; -1: no block of this stage
  std::vector<DeviceBatch> batch_;  // by slot
  TensorParallel<T> tp_;
  ContextAttention<T> attention_;
  std::optional<Fp8History> fp8_history_;
  StageContext<T> context_;
};

}  // namespace koios
