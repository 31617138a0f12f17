#include "model/block.hpp"

#include "kernels/attention.hpp"
#include "kernels/rmsnorm.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"
#include "model/linear.hpp"

namespace koios {
namespace {

/// The columns of q, k, v, and of q|k together, in the output of the q|k|v GEMM.
template <class T>
struct QkvColumns {
  Ref<T, 2> q, k, v, qk;

  QkvColumns(const LlamaShapes& m, Ref<T, 2> qkv_NQ) {
    const std::int64_t q_cols = m.n_heads * m.head_dim();
    const std::int64_t kv_cols = m.n_kv_heads * m.head_dim();
    q = column_range(qkv_NQ, 0, q_cols);
    k = column_range(qkv_NQ, q_cols, kv_cols);
    v = column_range(qkv_NQ, q_cols + kv_cols, kv_cols);
    qk = column_range(qkv_NQ, 0, q_cols + kv_cols);
  }
};

}  // namespace

template <class T>
void block_forward(BlockContext<T>& c, BlockSaved<T>& saved, Ref<const T, 2> previous_ND,
                   const UnitView<const T>& w) {
  Stream& s = c.stream;
  LlamaBuffers<T>& b = c.buffers;
  const float eps = c.model.norm_eps;

  if (previous_ND.data != nullptr) {
    add_rmsnorm_forward<T>(s, saved.x_ND, saved.normed1_ND, saved.rstd1_N, previous_ND, b.delta_ND,
                           w.vector(kAttentionNorm), eps);
  } else {
    rmsnorm_forward<T>(s, saved.normed1_ND, saved.rstd1_N, saved.x_ND, w.vector(kAttentionNorm),
                       eps);
  }
  stacked_forward<T>(c.math, s, saved.qkv_NQ, saved.normed1_ND, w.stacked(kWq, kWv));
  const QkvColumns<T> qkv(c.model, saved.qkv_NQ);
  rope_forward<T>(s, qkv.qk, b.rope_TE);
  attention_forward<T>(c.math, s, c.attention, saved.attention_ND, saved.lse_BHT, qkv.q, qkv.k,
                       qkv.v, b.attention_workspace);
  linear_forward<T>(c.math, s, b.delta_ND, saved.attention_ND, w.matrix(kWo));

  add_rmsnorm_forward<T>(s, saved.mid_ND, saved.normed2_ND, saved.rstd2_N, saved.x_ND, b.delta_ND,
                         w.vector(kFfnNorm), eps);
  stacked_forward<T>(c.math, s, saved.gate_up_N2F, saved.normed2_ND, w.stacked(kW1, kW3));
  swiglu_forward<T>(s, saved.activated_NF, saved.gate_up_N2F);
  linear_forward<T>(c.math, s, b.delta_ND, saved.activated_NF, w.matrix(kW2));
}

template <class T>
void block_backward(BlockContext<T>& c, BlockSaved<T>& saved, const UnitView<const T>& w,
                    const UnitView<float>& g, Write write) {
  Stream& s = c.stream;
  LlamaBuffers<T>& b = c.buffers;

  // Feed-forward: dx is the gradient of mid + w2(...), so of both.
  linear_backward_input<T>(c.math, s, b.d_activated_NF, b.dx_ND, w.matrix(kW2));
  linear_backward_weight<T>(c.math, s, g.matrix(kW2), b.dx_ND, saved.activated_NF, write);
  swiglu_backward<T>(s, saved.gate_up_N2F, b.d_activated_NF, saved.gate_up_N2F);  // in place
  stacked_backward_input<T>(c.math, s, b.d_normed_ND, saved.gate_up_N2F, w.stacked(kW1, kW3));
  stacked_backward_weight<T>(c.math, s, g.stacked(kW1, kW3), saved.gate_up_N2F, saved.normed2_ND,
                             write);
  rmsnorm_backward<T>(s, b.dx_ND, g.vector(kFfnNorm), b.norm_partial_PD, b.d_normed_ND, b.dx_ND,
                      saved.mid_ND, saved.rstd2_N, w.vector(kFfnNorm), write);

  // Attention: dx is now the gradient of x + wo(...).
  linear_backward_input<T>(c.math, s, b.d_attention_ND, b.dx_ND, w.matrix(kWo));
  linear_backward_weight<T>(c.math, s, g.matrix(kWo), b.dx_ND, saved.attention_ND, write);
  const QkvColumns<T> qkv(c.model, saved.qkv_NQ);
  const QkvColumns<T> d_qkv(c.model, b.d_qkv_NQ);
  attention_backward<T>(c.math, s, c.attention, d_qkv.q, d_qkv.k, d_qkv.v, b.d_attention_ND,
                        saved.attention_ND, saved.lse_BHT, qkv.q, qkv.k, qkv.v,
                        b.attention_workspace);
  rope_backward<T>(s, d_qkv.qk, b.rope_TE);
  stacked_backward_input<T>(c.math, s, b.d_normed_ND, b.d_qkv_NQ, w.stacked(kWq, kWv));
  stacked_backward_weight<T>(c.math, s, g.stacked(kWq, kWv), b.d_qkv_NQ, saved.normed1_ND, write);
  rmsnorm_backward<T>(s, b.dx_ND, g.vector(kAttentionNorm), b.norm_partial_PD, b.d_normed_ND,
                      b.dx_ND, saved.x_ND, saved.rstd1_N, w.vector(kAttentionNorm), write);
}

template void block_forward<float>(BlockContext<float>&, BlockSaved<float>&, Ref<const float, 2>,
                                   const UnitView<const float>&);
template void block_forward<bf16>(BlockContext<bf16>&, BlockSaved<bf16>&, Ref<const bf16, 2>,
                                  const UnitView<const bf16>&);
template void block_backward<float>(BlockContext<float>&, BlockSaved<float>&,
                                    const UnitView<const float>&, const UnitView<float>&, Write);
template void block_backward<bf16>(BlockContext<bf16>&, BlockSaved<bf16>&,
                                   const UnitView<const bf16>&, const UnitView<float>&, Write);

}  // namespace koios
