#include "model/block.hpp"

#include <optional>

#include "kernels/elementwise.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"
#include "model/fp8_linear.hpp"
#include "model/linear.hpp"
#include "model/norm.hpp"
#include "runtime/region.hpp"

namespace koios {
namespace {

template <class T>
void turn(StageContext<T>& c, Ref<T, 2> x) {
  const Region region(c.stream, "rope", passes_over(x, x));
  rope_forward<T>(c.stream, x, c.scratch.rope_TE);
}

/// Where the norm before a layer leaves its result.
template <class T>
NormResult<T> norm_result(StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer, Ref<T, 2> y_SD) {
  if (const auto at_once = fp8_input_at_once(c, v, layer, Fp8Use::products)) {
    return {.y_SD = {}, .at_once = at_once};
  }
  return {.y_SD = y_SD, .amax = fp8_input_amax(c, v, layer)};
}
template <class T>
NormResult<T> normed1(StageContext<T>& c, BlockSaved<T>& v) {
  return norm_result(c, v, kQkvLinear, v.normed1_SD);
}
template <class T>
NormResult<T> normed2(StageContext<T>& c, BlockSaved<T>& v) {
  return norm_result(c, v, kGateUpLinear, v.normed2_SD);
}

/// Step 7. In FP8 also the cast for step 8.
template <class T>
void activate(StageContext<T>& c, BlockSaved<T>& v, Fp8Use use = Fp8Use::products) {
  if (const auto y = fp8_input_at_once(c, v, kDownLinear, use)) {
    const Region region(c.stream, "swiglu to FP8",
                        passes_over(v.gate_NF, v.up_NF, y->q_NK, y->q_KN));
    swiglu_forward_to_fp8<T>(c.stream, *y, v.gate_NF, v.up_NF);
    return c.made("silu(gate) up", "activated", *y);
  }
  {
    const Region region(c.stream, "swiglu", passes_over(v.gate_NF, v.up_NF, v.activated_NF));
    swiglu_forward<T>(c.stream, v.activated_NF, v.gate_NF, v.up_NF,
                      fp8_input_amax(c, v, kDownLinear));
  }
  c.made("silu(gate) up", "activated", v.activated_NF);
  if (v.is_fp8()) fp8_input<T>(c, v, kDownLinear, v.activated_NF, use);
}

// The steps of the forward pass, numbered as in block_forward. A product that op_half computes
// again is a GEMM of its own both times, so that both give the same bits.

/// k of step 2. normed1_ND: not with FP8, where fp8_input has left it.
template <class T>
void k_forward(StageContext<T>& c, BlockSaved<T>& v, Ref<const T, 2> normed1_ND,
               const UnitView<const T>& w) {
  if (v.is_fp8()) {
    fp8_forward(c, v, kQkvLinear, v.k_N, w, kWk, kWk);
  } else {
    linear_forward<T>(c.math, c.stream, v.k_N, normed1_ND, w.matrix(kWk));
  }
  turn(c, v.k_N);
  c.made("product with wk and rope", "k", v.k_N);
}

/// Step 2.
template <class T>
void qkv_forward(StageContext<T>& c, BlockSaved<T>& v, const UnitView<const T>& w) {
  if (v.is_fp8()) {
    fp8_gathered_input<T>(c, v, kQkvLinear, v.normed1_SD);
    if (v.is_stacked()) {
      fp8_forward(c, v, kQkvLinear, v.qkv_NQ, w, kWq, kWv);
    } else {
      fp8_forward(c, v, kQkvLinear, v.q_NA, w, kWq, kWq);
      fp8_forward(c, v, kQkvLinear, v.v_N, w, kWv, kWv);
      k_forward(c, v, {}, w);
    }
  } else {
    const auto normed1_ND = c.tp.gather(v.normed1_SD);
    if (v.is_stacked()) {
      stacked_forward<T>(c.math, c.stream, v.qkv_NQ, normed1_ND, w.stacked(kWq, kWv));
    } else {
      linear_forward<T>(c.math, c.stream, v.q_NA, normed1_ND.all(), w.matrix(kWq));
      linear_forward<T>(c.math, c.stream, v.v_N, normed1_ND.all(), w.matrix(kWv));
      k_forward(c, v, normed1_ND.all(), w);
    }
  }
  turn(c, v.is_stacked() ? column_range(v.qkv_NQ, 0, c.local.q_cols + c.local.kv_cols) : v.q_NA);
  c.made("product with wq and rope", "q", v.q_NA);
  c.made("product with wk and rope", "k", v.k_N);
  c.made("product with wv", "v", v.v_N);
}

/// Step 3.
template <class T>
void attend(StageContext<T>& c, BlockSaved<T>& v) {
  c.attention.forward(v.attention_NA, v.lse_BHT, {v.q_NA, v.k_N, v.v_N}, c.documents);
  c.made("attention", "its result", v.attention_NA);
}

/// Steps 4 and 8: a layer whose inputs the tensor-parallel ranks share; their outputs are summed.
/// x_NI: not with FP8, where it was cast before.
template <class T>
void project(StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer, Ref<T, 2> delta_SD,
             Ref<const T, 2> x_NI, const UnitView<const T>& w, int parameter) {
  if (v.is_fp8()) {
    fp8_forward(c, v, layer, c.tp.partial(delta_SD).all(), w, parameter, parameter);
  } else {
    linear_forward<T>(c.math, c.stream, c.tp.partial(delta_SD), x_NI, w.matrix(parameter));
  }
  const char* product = parameter == kWo ? "product with wo" : "product with w2";
  c.made(product, "this rank's part of delta", c.tp.partial(delta_SD).summands());
  c.tp.reduce_scatter(delta_SD);
  c.made("sum over tensor-parallel ranks", "delta", delta_SD);
}

/// up of step 6.
template <class T>
void up_forward(StageContext<T>& c, BlockSaved<T>& v, Ref<const T, 2> normed2_ND,
                const UnitView<const T>& w) {
  if (v.is_fp8()) return fp8_forward(c, v, kGateUpLinear, v.up_NF, w, kW3, kW3);
  linear_forward<T>(c.math, c.stream, v.up_NF, normed2_ND, w.matrix(kW3));
}

/// Step 6.
template <class T>
void gate_up_forward(StageContext<T>& c, BlockSaved<T>& v, const UnitView<const T>& w) {
  if (v.is_fp8()) {
    fp8_gathered_input<T>(c, v, kGateUpLinear, v.normed2_SD);
    if (v.is_stacked()) {
      fp8_forward(c, v, kGateUpLinear, v.gate_up_N2F, w, kW1, kW3);
    } else {
      fp8_forward(c, v, kGateUpLinear, v.gate_NF, w, kW1, kW1);
      up_forward(c, v, {}, w);
    }
  } else {
    const auto normed2_ND = c.tp.gather(v.normed2_SD);
    if (v.is_stacked()) {
      stacked_forward<T>(c.math, c.stream, v.gate_up_N2F, normed2_ND, w.stacked(kW1, kW3));
    } else {
      linear_forward<T>(c.math, c.stream, v.gate_NF, normed2_ND.all(), w.matrix(kW1));
      up_forward(c, v, normed2_ND.all(), w);
    }
  }
  c.made("product with w1", "gate", v.gate_NF);
  c.made("product with w3", "up", v.up_NF);
}

}  // namespace

template <class T>
void block_forward(StageContext<T>& c, BlockSaved<T>& v, Ref<const T, 2> previous_SD,
                   Ref<T, 2> delta_SD, const UnitView<const T>& w) {
  if (v.is_fp8()) fp8_forget_amax(c, v);
  // 1  x = previous + delta, normed1 = norm(x)
  if (previous_SD.data != nullptr) {
    add_norm_forward<T>(c, w.norm(kAttentionNorm), v.x_SD, normed1(c, v), v.rows1, previous_SD,
                        delta_SD);
  } else {
    norm_forward<T>(c, w.norm(kAttentionNorm), normed1(c, v), v.rows1, v.x_SD);
  }
  // 2  q|k|v = normed1 wq|wk|wv, q and k turned by their positions
  qkv_forward(c, v, w);
  // 3  attention = softmax(q k^T / sqrt(E)) v
  attend(c, v);
  // 4  delta = attention wo
  if (v.is_fp8()) fp8_input<T>(c, v, kOutLinear, v.attention_NA);
  project<T>(c, v, kOutLinear, delta_SD, v.attention_NA, w, kWo);
  // 5  mid = x + delta, normed2 = norm(mid)
  add_norm_forward<T>(c, w.norm(kFfnNorm), v.mid_SD, normed2(c, v), v.rows2, v.x_SD, delta_SD);
  // 6  gate|up = normed2 w1|w3
  gate_up_forward(c, v, w);
  // 7  activated = silu(gate) up
  activate(c, v);
  // 8  delta = activated w2
  project<T>(c, v, kDownLinear, delta_SD, v.activated_NF, w, kW2);
}

template <class T>
void block_recompute(StageContext<T>& c, BlockSaved<T>& v, Ref<T, 2> delta_SD,
                     const UnitView<const T>& w) {
  const Recompute level = v.recompute;
  const bool has_products = level == Recompute::op_half;
  const Fp8Use use_again = has_products ? Fp8Use::products : Fp8Use::weight_gradient;
  // With FP8 every input is cast again, from the amax that is known, and so gathered before.
  norm_forward<T>(c, w.norm(kAttentionNorm), normed1(c, v), v.rows1, v.x_SD);
  if (level == Recompute::full) {
    qkv_forward(c, v, w);
    attend(c, v);
  } else if (v.is_fp8()) {
    fp8_gathered_input<T>(c, v, kQkvLinear, v.normed1_SD, use_again);
    if (level == Recompute::op_half) k_forward(c, v, {}, w);
  } else if (level == Recompute::op_half) {
    k_forward(c, v, c.tp.gather(v.normed1_SD).all(), w);
  }
  if (v.is_fp8()) {
    fp8_input<T>(c, v, kOutLinear, v.attention_NA,
                 level == Recompute::op ? Fp8Use::weight_gradient : Fp8Use::products);
  }
  if (level == Recompute::op) {
    norm_forward<T>(c, w.norm(kFfnNorm), normed2(c, v), v.rows2, v.mid_SD);
  } else {
    project<T>(c, v, kOutLinear, delta_SD, v.attention_NA, w, kWo);
    add_norm_forward<T>(c, w.norm(kFfnNorm), v.mid_SD, normed2(c, v), v.rows2, v.x_SD, delta_SD);
  }
  if (level == Recompute::full) {
    gate_up_forward(c, v, w);
  } else if (v.is_fp8()) {
    fp8_gathered_input<T>(c, v, kGateUpLinear, v.normed2_SD, use_again);
    if (level == Recompute::op_half) up_forward(c, v, {}, w);
  } else if (level == Recompute::op_half) {
    up_forward(c, v, c.tp.gather(v.normed2_SD).all(), w);
  }
  activate(c, v, Fp8Use::weight_gradient);
}

template <class T>
void BlockWeightGradients<T>::w2(Ref<const T, 2> d_out_ND) const {
  if (v_.is_fp8()) return fp8_backward_weight(c_, v_, kDownLinear, g_, kW2, kW2, write_);
  linear_backward_weight<T>(c_.math, c_.stream, g_.matrix(kW2), d_out_ND, v_.activated_NF, write_);
}

template <class T>
void BlockWeightGradients<T>::w1_w3(Ref<const T, 2> normed2_ND) const {
  if (v_.is_fp8()) return fp8_backward_weight(c_, v_, kGateUpLinear, g_, kW1, kW3, write_);
  stacked_backward_weight<T>(c_.math, c_.stream, g_.stacked(kW1, kW3), d_.gate_up_N2F, normed2_ND,
                             write_);
}

template <class T>
void BlockWeightGradients<T>::wo(Ref<const T, 2> d_mid_ND) const {
  if (v_.is_fp8()) return fp8_backward_weight(c_, v_, kOutLinear, g_, kWo, kWo, write_);
  linear_backward_weight<T>(c_.math, c_.stream, g_.matrix(kWo), d_mid_ND, v_.attention_NA, write_);
}

template <class T>
void BlockWeightGradients<T>::wq_wk_wv(Ref<const T, 2> normed1_ND) const {
  if (v_.is_fp8()) return fp8_backward_weight(c_, v_, kQkvLinear, g_, kWq, kWv, write_);
  stacked_backward_weight<T>(c_.math, c_.stream, g_.stacked(kWq, kWv), d_.qkv_NQ, normed1_ND,
                             write_);
}

// The steps of block_forward backwards.
template <class T>
void block_backward_input(StageContext<T>& c, BlockSaved<T>& v, const BlockGradients<T>& d,
                          const UnitView<const T>& w, const UnitView<float>& g, Write write,
                          const BlockWeightGradients<T>* weights) {
  Stream& s = c.stream;
  const Ref<T, 2> d_activated_NF = c.scratch.d_activated_NF;
  const Ref<T, 2> d_attention_NA = c.scratch.d_attention_NA;
  const Ref<T, 2> d_normed_SD = c.scratch.d_normed_SD;
  // In FP8 gradients are cast before they are gathered, and all rows of the inputs are kept.
  const auto gather = [&](Ref<const T, 2> mine_SD) {
    return v.is_fp8() ? std::nullopt : std::optional(c.tp.gather(mine_SD));
  };
  // Begun before the product that it travels beside.
  const auto gather_for_weights = [&](Ref<const T, 2> mine_SD) {
    return weights != nullptr ? gather(mine_SD) : std::nullopt;
  };
  const auto all_of = [](const auto& gathered) {
    return gathered ? gathered->all() : Ref<const T, 2>{};
  };

  // 8  out = mid + activated w2
  const auto d_out_ND = gather(d.out_SD);
  if (v.is_fp8()) {
    fp8_gathered_gradient<T>(c, v, kDownLinear, d.out_SD);
    fp8_backward_input(c, v, d_activated_NF, w, kW2, kW2);
  } else {
    linear_backward_input<T>(c.math, s, d_activated_NF, *d_out_ND, w.matrix(kW2));
  }
  if (weights != nullptr) weights->w2(all_of(d_out_ND));
  c.made("product with w2, backward", "d_activated", d_activated_NF);
  // 7  activated = silu(gate) up
  const std::int64_t ffn = c.local.ffn;
  const auto d_gate_up = fp8_gradient_at_once(c, v, kGateUpLinear, 2 * ffn);
  if (d_gate_up) {
    const Region region(
        s, "swiglu backward to FP8",
        passes_over(d_activated_NF, v.gate_NF, v.up_NF, d_gate_up->q_NK, d_gate_up->q_KN));
    swiglu_backward_to_fp8<T>(s, *d_gate_up, d_activated_NF, v.gate_NF, v.up_NF);
    c.made("silu(gate) up, backward", "d_gate|d_up", *d_gate_up);
  } else {
    const Region region(s, "swiglu backward",
                        passes_over(d_activated_NF, v.gate_NF, v.up_NF, d.gate_up_N2F));
    swiglu_backward<T>(s, column_range(d.gate_up_N2F, 0, ffn),
                       column_range(d.gate_up_N2F, ffn, ffn), d_activated_NF, v.gate_NF, v.up_NF,
                       fp8_gradient_amax(c, v, kGateUpLinear));
    c.made("silu(gate) up, backward", "d_gate|d_up", d.gate_up_N2F);
  }
  // 6  gate|up = normed2 w1|w3
  const auto normed2_ND = gather_for_weights(v.normed2_SD);
  if (v.is_fp8()) {
    fp8_gradient<T>(c, v, kGateUpLinear, d.gate_up_N2F);
    fp8_backward_input(c, v, c.tp.partial(d_normed_SD).all(), w, kW1, kW3);
  } else {
    stacked_backward_input<T>(c.math, s, c.tp.partial(d_normed_SD), d.gate_up_N2F,
                              w.stacked(kW1, kW3));
  }
  c.tp.begin_reduce_scatter(d_normed_SD);
  if (weights != nullptr) weights->w1_w3(all_of(normed2_ND));
  c.made("product with w1|w3, backward", "this rank's part of d_normed2",
         c.tp.partial(d_normed_SD).summands());
  c.tp.reduce_scatter(d_normed_SD);
  c.made("sum over tensor-parallel ranks, backward", "d_normed2", d_normed_SD);
  // 5  normed2 = norm(mid); mid goes to out as it is, too
  norm_backward<T>(c, w.norm(kFfnNorm), g.norm(kFfnNorm), d.mid_SD, d_normed_SD, d.out_SD, v.mid_SD,
                   v.rows2, write, fp8_gradient_amax(c, v, kOutLinear));
  c.made("ffn_norm, backward", "d_mid", d.mid_SD);

  // 4  mid = x + attention wo
  const auto d_mid_ND = gather(d.mid_SD);
  c.attention.prepare_backward({v.q_NA, v.k_N, v.v_N});  // to travel beside the products
  if (v.is_fp8()) {
    fp8_gathered_gradient<T>(c, v, kOutLinear, d.mid_SD);
    fp8_backward_input(c, v, d_attention_NA, w, kWo, kWo);
  } else {
    linear_backward_input<T>(c.math, s, d_attention_NA, *d_mid_ND, w.matrix(kWo));
  }
  if (weights != nullptr) weights->wo(all_of(d_mid_ND));
  c.made("product with wo, backward", "d_attention", d_attention_NA);
  // 3  attention = softmax(q k^T / sqrt(E)) v
  const std::int64_t q = c.local.q_cols;
  const std::int64_t kv = c.local.kv_cols;
  const auto d_columns = [&](std::int64_t first, std::int64_t count) {
    return column_range(d.qkv_NQ, first, count);
  };
  c.attention.backward({d_columns(0, q), d_columns(q, kv), d_columns(q + kv, kv)}, d_attention_NA,
                       v.attention_NA, v.lse_BHT, {v.q_NA, v.k_N, v.v_N}, c.documents);
  c.made("attention, backward", "d_q|d_k|d_v", d.qkv_NQ);
  // 2  q|k|v = normed1 wq|wk|wv, q and k turned
  const auto d_qkv = fp8_gradient_at_once(c, v, kQkvLinear, q + 2 * kv);
  if (d_qkv) {
    const Region region(s, "rope backward to FP8", passes_over(d.qkv_NQ, d_qkv->q_NK, d_qkv->q_KN));
    rope_backward_to_fp8<T>(s, *d_qkv, d.qkv_NQ, q + kv, c.scratch.rope_TE);
  } else {
    const Region region(s, "rope backward",
                        passes_over(d_columns(0, q + kv), d_columns(0, q + kv)));
    const Ref<float, 1> amax = fp8_gradient_amax(c, v, kQkvLinear);
    rope_backward<T>(s, d_columns(0, q + kv), c.scratch.rope_TE, amax);
    if (amax.data != nullptr) raise_amax<T>(s, amax, d_columns(q + kv, kv));
  }
  const auto normed1_ND = gather_for_weights(v.normed1_SD);
  if (v.is_fp8()) {
    fp8_gradient<T>(c, v, kQkvLinear, d.qkv_NQ);
    fp8_backward_input(c, v, c.tp.partial(d_normed_SD).all(), w, kWq, kWv);
  } else {
    stacked_backward_input<T>(c.math, s, c.tp.partial(d_normed_SD), d.qkv_NQ, w.stacked(kWq, kWv));
  }
  c.tp.begin_reduce_scatter(d_normed_SD);
  if (weights != nullptr) weights->wq_wk_wv(all_of(normed1_ND));
  c.made("product with wq|wk|wv, backward", "this rank's part of d_normed1",
         c.tp.partial(d_normed_SD).summands());
  c.tp.reduce_scatter(d_normed_SD);
  c.made("sum over tensor-parallel ranks, backward", "d_normed1", d_normed_SD);
  // 1  normed1 = norm(x); x goes to mid as it is, too
  norm_backward<T>(c, w.norm(kAttentionNorm), g.norm(kAttentionNorm), d.x_SD, d_normed_SD, d.mid_SD,
                   v.x_SD, v.rows1, write, d.x_amax);
  c.made("attention_norm, backward", "dx", d.x_SD);
}

template <class T>
void block_backward_weight(StageContext<T>& c, BlockSaved<T>& v, const BlockGradients<T>& d,
                           const BlockWeightGradients<T>& weights) {
  if (v.is_fp8()) {  // the inputs are kept in 8 bits, gradients are cast again
    fp8_gathered_gradient<T>(c, v, kDownLinear, d.out_SD);
    weights.w2({});
    fp8_gradient<T>(c, v, kGateUpLinear, d.gate_up_N2F);
    weights.w1_w3({});
    fp8_gathered_gradient<T>(c, v, kOutLinear, d.mid_SD);
    weights.wo({});
    fp8_gradient<T>(c, v, kQkvLinear, d.qkv_NQ);
    weights.wq_wk_wv({});
    return;
  }
  weights.w2(c.tp.gather(d.out_SD).all());
  weights.w1_w3(c.tp.gather(v.normed2_SD).all());
  weights.wo(c.tp.gather(d.mid_SD).all());
  weights.wq_wk_wv(c.tp.gather(v.normed1_SD).all());
}

#define KOIOS_INSTANTIATE(T)                                                                   \
  template void block_forward<T>(StageContext<T>&, BlockSaved<T>&, Ref<const T, 2>, Ref<T, 2>, \
                                 const UnitView<const T>&);                                    \
  template void block_recompute<T>(StageContext<T>&, BlockSaved<T>&, Ref<T, 2>,                \
                                   const UnitView<const T>&);                                  \
  template class BlockWeightGradients<T>;                                                      \
  template void block_backward_input<T>(                                                       \
      StageContext<T>&, BlockSaved<T>&, const BlockGradients<T>&, const UnitView<const T>&,    \
      const UnitView<float>&, Write, const BlockWeightGradients<T>*);                          \
  template void block_backward_weight<T>(                                                      \
      StageContext<T>&, BlockSaved<T>&, const BlockGradients<T>&, const BlockWeightGradients<T>&);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
