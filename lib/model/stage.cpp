#include "model/stage.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/rope.hpp"
#include "model/fp8_linear.hpp"
#include "model/head.hpp"
#include "runtime/copy.hpp"
#include "runtime/region.hpp"

namespace koios {

template <class T>
Stage<T>::Stage(const StageShape& shape, const ShardLayout& layout, StageBuffers<T> buffers,
                MathHandles& math, Communicator& tensor, const ContextGroups& context,
                Stream& compute, Stream& exchange, ExposedWaits& exposed)
    : shape_(shape),
      local_(shape.local()),
      layout_(layout),
      buffers_(std::move(buffers)),
      position_(layout.units().size(), -1),
      batch_(buffers_.slot.size()),
      tp_(tensor, buffers_.tp, compute, exchange, exposed.tensor),
      attention_(local_, buffers_.context, math, buffers_.scratch.attention_workspace, context,
                 compute, exchange, exposed.context),
      context_{shape_.model, local_,           shape_.tensor, math,
               compute,      buffers_.scratch, tp_,           attention_} {
  const SequencePart part = context.part();
  const std::int64_t rows = part.chunk_len(shape_.micro_batch.seq_len);
  for (int chunk = 0; chunk < part.chunks(); ++chunk) {
    rope_table(compute, row_range(buffers_.scratch.rope_TE, chunk * rows, rows),
               shape_.model.rope_theta, part.begin(chunk, shape_.micro_batch.seq_len));
  }
  forget_fp8_counts();
  remember_fp8();
  for (const std::vector<int>& run : layout.runs()) {
    int blocks = 0;
    for (const int unit : run) {
      if (layout.unit(unit).role == UnitRole::block) position_[index(unit)] = blocks++;
    }
  }
}

template <class T>
void Stage<T>::forget_fp8_counts() {
  if (shape_.fp8.is_on()) fill_zero(context_.stream, any(buffers_.scratch.fp8.counts));
}

template <class T>
void Stage<T>::remember_fp8() {
  if (shape_.fp8.scales != Fp8ScalesOf::previous) return;
  std::vector<int> places;
  for (const StageSaved<T>& of_slot : buffers_.slot) {  // all slots of a run name the same
    for (const BlockSaved<T>& block : of_slot.block) {
      for (const int place : fp8_places_at_once(shape_, block.fp8)) {
        places.push_back(place);
      }
    }
  }
  fp8_history_.emplace(buffers_.fp8_history, places, context_.stream);
  context_.fp8_history = &*fp8_history_;
}

template <class T>
void Stage<T>::begin_fp8_step() {
  if (fp8_history_) fp8_history_->begin_step();
}
template <class T>
void Stage<T>::end_fp8_step(Ref<const float, 1> grad_norm) {
  if (fp8_history_) fp8_history_->end_step(grad_norm);
}

template <class T>
std::size_t Stage<T>::position(int unit) const {
  const int at = position_[index(unit)];
  KOIOS_REQUIRE(at >= 0, "unit ", unit, " is no block of this stage");
  return index(at);
}

template <class T>
Ref<const T, 2> Stage<T>::stream_before(int unit, int slot) {
  const std::size_t before =
      layout_.unit(unit).role == UnitRole::head ? saved(slot).block.size() : position(unit);
  return before == 0 ? Ref<const T, 2>{} : saved(slot).block[before - 1].mid_SD;
}

template <class T>
StageContext<T>& Stage<T>::context(int slot) {
  context_.documents = batch(slot).documents;
  return context_;
}

template <class T>
void Stage<T>::forward(int unit, int slot, const UnitView<const T>& weights) {
  if (layout_.unit(unit).role == UnitRole::embedding) {
    const Ref<T, 2> x_SD = saved(slot).block.front().x_SD;
    const Region region(context_.stream, "embedding", passes_over(x_SD, x_SD));
    embedding_forward<T>(context_.stream, tp_.partial(x_SD).all(), batch(slot).token_N,
                         weights.matrix(0), first_token());
    context_.made("look-up", "this rank's part of x", tp_.partial(x_SD).summands());
    tp_.reduce_scatter(x_SD);
  } else {
    block_forward<T>(context(slot), block(unit, slot), stream_before(unit, slot),
                     buffers_.scratch.delta_SD, weights);
  }
}

template <class T>
void Stage<T>::form_output(int slot, Ref<T, 2> out_SD) {
  add<T>(context_.stream, out_SD, saved(slot).block.back().mid_SD, buffers_.scratch.delta_SD);
}

template <class T>
void Stage<T>::forward_backward_head(int unit, int slot, float loss_scale,
                                     const UnitView<const T>& weights,
                                     const GradientOutput& gradients) {
  head_forward_backward<T>(context(slot), saved(slot).head, saved(slot).dx_SD,
                           stream_before(unit, slot), buffers_.scratch.delta_SD,
                           batch(slot).label_N, loss_scale, weights, gradients.view,
                           gradients.write, amax_before(slot, saved(slot).block.size()));
}

template <class T>
void Stage<T>::evaluate_head(int unit, int slot, const UnitView<const T>& weights) {
  head_forward<T>(context(slot), saved(slot).head, stream_before(unit, slot),
                  buffers_.scratch.delta_SD, batch(slot).label_N, weights);
}

template <class T>
void Stage<T>::recompute(int unit, int slot, const UnitView<const T>& weights) {
  block_recompute<T>(context(slot), block(unit, slot), buffers_.scratch.delta_SD, weights);
}

template <class T>
Ref<float, 1> Stage<T>::amax_before(int slot, std::size_t blocks) {
  if (blocks == 0) return {};
  return fp8_gradient_amax(context_, saved(slot).block[blocks - 1], kDownLinear);
}

template <class T>
BlockGradients<T> Stage<T>::gradients_of(int unit, int slot) {
  StageSaved<T>& s = saved(slot);
  const std::size_t at = position(unit);
  BlockSaved<T>& v = s.block[at];
  const Ref<T, 2> d_qkv_NQ = buffers_.scratch.d_qkv_NQ;
  const Ref<float, 1> amax = amax_before(slot, at);
  if (!shape_.splits_backward) return {s.dx_SD, v.gate_up_N2F, s.dx_SD, d_qkv_NQ, s.dx_SD, amax};
  const bool is_last = at + 1 == s.block.size();
  return {is_last ? s.dx_SD : s.block[at + 1].x_SD,
          v.gate_up_N2F,
          v.mid_SD,
          d_qkv_NQ,
          at == 0 ? s.d_in_SD : v.x_SD,
          amax};
}

template <class T>
void Stage<T>::backward(int unit, int slot, const UnitView<const T>& weights,
                        const GradientOutput& gradients) {
  BlockSaved<T>& v = block(unit, slot);
  const BlockGradients<T> d = gradients_of(unit, slot);
  StageContext<T>& c = context(slot);
  const BlockWeightGradients<T> weight_gradients(c, v, d, gradients.view, gradients.write);
  block_backward_input<T>(c, v, d, weights, gradients.view, gradients.write, &weight_gradients);
}

template <class T>
void Stage<T>::backward_input(int unit, int slot, const UnitView<const T>& weights,
                              const GradientOutput& gradients) {
  BlockSaved<T>& v = block(unit, slot);
  block_backward_input<T>(context(slot), v, gradients_of(unit, slot), weights, gradients.view,
                          gradients.write, nullptr);
  const Ref<T, 2> free_NQ = v.qkv_NQ;
  v.move_qkv(buffers_.scratch.d_qkv_NQ, local_);
  buffers_.scratch.d_qkv_NQ = free_NQ;
}

template <class T>
void Stage<T>::backward_weight(int unit, int slot, const GradientOutput& gradients) {
  BlockSaved<T>& v = block(unit, slot);
  BlockGradients<T> d = gradients_of(unit, slot);
  d.qkv_NQ = v.qkv_NQ;
  StageContext<T>& c = context(slot);
  block_backward_weight<T>(c, v, d, {c, v, d, gradients.view, gradients.write});
}

template <class T>
void Stage<T>::backward_embedding(int slot, const GradientOutput& gradients) {
  const Ref<float, 2> d_table = gradients.view.matrix(0);
  const Region region(context_.stream, "embedding backward",
                      passes_over(d_table, saved(slot).d_in_SD));
  if (gradients.write == Write::overwrite) fill_zero(context_.stream, any(d_table));
  embedding_backward<T>(context_.stream, d_table, tp_.gather(saved(slot).d_in_SD).all(),
                        batch(slot).sort, first_token());
}

template class Stage<float>;
template class Stage<bf16>;

}  // namespace koios
