#include "model/block.hpp"

#include "kernels/attention.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"
#include "model/linear.hpp"
#include "model/norm.hpp"

namespace koios {
namespace {

/// Where q, k and v lie: columns of one GEMM's output, or k by itself.
template <class T>
struct QkvColumns {
  Ref<T, 2> q, k, v, qk;  // qk: q|k together, where they are neighbours

  QkvColumns(const LlamaShapes& m, Ref<T, 2> qkv_NQ) {
    q = column_range(qkv_NQ, 0, m.q_cols());
    k = column_range(qkv_NQ, m.q_cols(), m.kv_cols());
    v = column_range(qkv_NQ, m.q_cols() + m.kv_cols(), m.kv_cols());
    qk = column_range(qkv_NQ, 0, m.q_cols() + m.kv_cols());
  }
  QkvColumns(Ref<T, 2> qv_NQ, Ref<T, 2> k_NK) : k(k_NK) {
    const std::int64_t kv_cols = k.extent[1];
    q = column_range(qv_NQ, 0, qv_NQ.extent[1] - kv_cols);
    v = column_range(qv_NQ, qv_NQ.extent[1] - kv_cols, kv_cols);
  }
};

template <class T>
QkvColumns<T> qkv_columns(const LlamaShapes& m, const BlockSaved<T>& saved) {
  if (saved.recompute == Recompute::op_half) return {saved.qv_NQ, saved.k_NK};
  return {m, saved.qkv_NQ};
}

template <class T>
Ref<T, 2> up_of(const BlockSaved<T>& saved) {
  const std::int64_t ffn = saved.activated_NF.extent[1];
  return column_range(saved.gate_up_N2F, ffn, ffn);
}
template <class T>
Ref<T, 2> gate_of(const BlockSaved<T>& saved) {
  if (saved.recompute == Recompute::op_half) return saved.gate_NF;
  return column_range(saved.gate_up_N2F, 0, saved.activated_NF.extent[1]);
}

template <class T>
RowStatistics rows1(const BlockSaved<T>& saved) {
  return {saved.rstd1_S, saved.mean1_S};
}
template <class T>
RowStatistics rows2(const BlockSaved<T>& saved) {
  return {saved.rstd2_S, saved.mean2_S};
}

// The steps of the forward pass. A product that op_half computes again is a GEMM of its own both
// times, so that both give the same bits.

template <class T>
void k_forward(BlockContext<T>& c, BlockSaved<T>& saved, Ref<const T, 2> normed1_ND,
               const UnitView<const T>& w) {
  linear_forward<T>(c.math, c.stream, saved.k_NK, normed1_ND, w.matrix(kWk));
  rope_forward<T>(c.stream, saved.k_NK, c.buffers.rope_TE);
}

template <class T>
void qkv_forward(BlockContext<T>& c, BlockSaved<T>& saved, const UnitView<const T>& w) {
  const QkvColumns<T> qkv = qkv_columns(c.model, saved);
  const auto normed1_ND = c.tp.gather(saved.normed1_SD);
  if (saved.recompute == Recompute::op_half) {
    linear_forward<T>(c.math, c.stream, qkv.q, normed1_ND.all(), w.matrix(kWq));
    linear_forward<T>(c.math, c.stream, qkv.v, normed1_ND.all(), w.matrix(kWv));
    rope_forward<T>(c.stream, qkv.q, c.buffers.rope_TE);
    k_forward(c, saved, normed1_ND.all(), w);
  } else {
    stacked_forward<T>(c.math, c.stream, saved.qkv_NQ, normed1_ND, w.stacked(kWq, kWv));
    rope_forward<T>(c.stream, qkv.qk, c.buffers.rope_TE);
  }
}

template <class T>
void attend(BlockContext<T>& c, BlockSaved<T>& saved) {
  const QkvColumns<T> qkv = qkv_columns(c.model, saved);
  attention_forward<T>(c.math, c.stream, c.attention, saved.attention_NA, saved.lse_BHT, qkv.q,
                       qkv.k, qkv.v, c.buffers.attention_workspace, c.document_start_N);
}

/// mid = x + wo(attention), and its norm.
template <class T>
void add_attention(BlockContext<T>& c, BlockSaved<T>& saved, const UnitView<const T>& w) {
  linear_forward<T>(c.math, c.stream, c.tp.partial(c.buffers.delta_SD), saved.attention_NA,
                    w.matrix(kWo));
  c.tp.reduce_scatter(c.buffers.delta_SD);
  add_norm_forward<T>(c, w, kFfnNorm, saved.mid_SD, saved.normed2_SD, rows2(saved), saved.x_SD);
}

template <class T>
void up_forward(BlockContext<T>& c, BlockSaved<T>& saved, Ref<const T, 2> normed2_ND,
                const UnitView<const T>& w) {
  linear_forward<T>(c.math, c.stream, up_of(saved), normed2_ND, w.matrix(kW3));
}

template <class T>
void gate_up_forward(BlockContext<T>& c, BlockSaved<T>& saved, const UnitView<const T>& w) {
  const auto normed2_ND = c.tp.gather(saved.normed2_SD);
  if (saved.recompute == Recompute::op_half) {
    linear_forward<T>(c.math, c.stream, saved.gate_NF, normed2_ND.all(), w.matrix(kW1));
    up_forward(c, saved, normed2_ND.all(), w);
  } else {
    stacked_forward<T>(c.math, c.stream, saved.gate_up_N2F, normed2_ND, w.stacked(kW1, kW3));
  }
}

}  // namespace

template <class T>
void block_forward(BlockContext<T>& c, BlockSaved<T>& saved, Ref<const T, 2> previous_SD,
                   const UnitView<const T>& w) {
  Stream& s = c.stream;
  LlamaBuffers<T>& b = c.buffers;

  if (previous_SD.data != nullptr) {
    add_norm_forward<T>(c, w, kAttentionNorm, saved.x_SD, saved.normed1_SD, rows1(saved),
                        previous_SD);
  } else {
    norm_forward<T>(c, w, kAttentionNorm, saved.normed1_SD, rows1(saved), saved.x_SD);
  }
  qkv_forward(c, saved, w);
  attend(c, saved);
  add_attention(c, saved, w);
  gate_up_forward(c, saved, w);
  swiglu_forward<T>(s, saved.activated_NF, gate_of(saved), up_of(saved));
  linear_forward<T>(c.math, s, c.tp.partial(b.delta_SD), saved.activated_NF, w.matrix(kW2));
  c.tp.reduce_scatter(b.delta_SD);
}

template <class T>
void block_recompute(BlockContext<T>& c, BlockSaved<T>& saved, const UnitView<const T>& w) {
  const Recompute level = saved.recompute;
  if (level == Recompute::none) return;
  Stream& s = c.stream;

  norm_forward<T>(c, w, kAttentionNorm, saved.normed1_SD, rows1(saved), saved.x_SD);
  if (level == Recompute::op_half) k_forward(c, saved, c.tp.gather(saved.normed1_SD).all(), w);
  if (level == Recompute::full) {
    qkv_forward(c, saved, w);
    attend(c, saved);
  }
  if (level == Recompute::op) {
    norm_forward<T>(c, w, kFfnNorm, saved.normed2_SD, rows2(saved), saved.mid_SD);
  } else {
    add_attention(c, saved, w);
  }
  if (level == Recompute::op_half) up_forward(c, saved, c.tp.gather(saved.normed2_SD).all(), w);
  if (level == Recompute::full) gate_up_forward(c, saved, w);
  swiglu_forward<T>(s, saved.activated_NF, gate_of(saved), up_of(saved));
}

template <class T>
void block_backward(BlockContext<T>& c, BlockSaved<T>& saved, const UnitView<const T>& w,
                    const UnitView<float>& g, Write write) {
  Stream& s = c.stream;
  LlamaBuffers<T>& b = c.buffers;

  // Feed-forward: dx is the gradient of mid + w2(...), so of both.
  const auto d_out_ND = c.tp.gather(b.dx_SD);
  linear_backward_input<T>(c.math, s, b.d_activated_NF, d_out_ND, w.matrix(kW2));
  linear_backward_weight<T>(c.math, s, g.matrix(kW2), d_out_ND.all(), saved.activated_NF, write);
  const Ref<T, 2> d_gate_NF = column_range(saved.gate_up_N2F, 0, saved.activated_NF.extent[1]);
  swiglu_backward<T>(s, d_gate_NF, up_of(saved), b.d_activated_NF, gate_of(saved),
                     up_of(saved));  // in place
  const auto normed2_ND = c.tp.gather(saved.normed2_SD);
  stacked_backward_input<T>(c.math, s, c.tp.partial(b.d_normed_SD), saved.gate_up_N2F,
                            w.stacked(kW1, kW3));
  stacked_backward_weight<T>(c.math, s, g.stacked(kW1, kW3), saved.gate_up_N2F, normed2_ND.all(),
                             write);
  c.tp.reduce_scatter(b.d_normed_SD);
  norm_backward<T>(c, w, g, kFfnNorm, b.dx_SD, saved.mid_SD, rows2(saved), write);

  // Attention: dx is now the gradient of x + wo(...).
  const auto d_mid_ND = c.tp.gather(b.dx_SD);
  linear_backward_input<T>(c.math, s, b.d_attention_NA, d_mid_ND, w.matrix(kWo));
  linear_backward_weight<T>(c.math, s, g.matrix(kWo), d_mid_ND.all(), saved.attention_NA, write);
  const QkvColumns<T> qkv = qkv_columns(c.model, saved);
  const QkvColumns<T> d_qkv(c.model, b.d_qkv_NQ);
  attention_backward<T>(c.math, s, c.attention, d_qkv.q, d_qkv.k, d_qkv.v, b.d_attention_NA,
                        saved.attention_NA, saved.lse_BHT, qkv.q, qkv.k, qkv.v,
                        b.attention_workspace, c.document_start_N);
  rope_backward<T>(s, d_qkv.qk, b.rope_TE);
  const auto normed1_ND = c.tp.gather(saved.normed1_SD);
  stacked_backward_input<T>(c.math, s, c.tp.partial(b.d_normed_SD), b.d_qkv_NQ,
                            w.stacked(kWq, kWv));
  stacked_backward_weight<T>(c.math, s, g.stacked(kWq, kWv), b.d_qkv_NQ, normed1_ND.all(), write);
  c.tp.reduce_scatter(b.d_normed_SD);
  norm_backward<T>(c, w, g, kAttentionNorm, b.dx_SD, saved.x_SD, rows1(saved), write);
}

template void block_forward<float>(BlockContext<float>&, BlockSaved<float>&, Ref<const float, 2>,
                                   const UnitView<const float>&);
template void block_forward<bf16>(BlockContext<bf16>&, BlockSaved<bf16>&, Ref<const bf16, 2>,
                                  const UnitView<const bf16>&);
template void block_recompute<float>(BlockContext<float>&, BlockSaved<float>&,
                                     const UnitView<const float>&);
template void block_backward<float>(BlockContext<float>&, BlockSaved<float>&,
                                    const UnitView<const float>&, const UnitView<float>&, Write);
template void block_recompute<bf16>(BlockContext<bf16>&, BlockSaved<bf16>&,
                                    const UnitView<const bf16>&);
template void block_backward<bf16>(BlockContext<bf16>&, BlockSaved<bf16>&,
                                   const UnitView<const bf16>&, const UnitView<float>&, Write);

}  // namespace koios
