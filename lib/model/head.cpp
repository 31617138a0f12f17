#include "model/head.hpp"

#include "model/norm.hpp"
#include "model/vocabulary_loss.hpp"

namespace koios {

template <class T>
void head_forward_backward(StageContext<T>& c, const HeadSaved<T>& v, Ref<T, 2> dx_SD,
                           Ref<const T, 2> previous_SD, Ref<const T, 2> delta_SD,
                           Ref<const std::int32_t, 1> label_N, float loss_scale,
                           const UnitView<const T>& w, const UnitView<float>& g, Write write,
                           Ref<float, 1> dx_amax) {
  Stream& s = c.stream;
  const Ref<T, 2> d_normed_SD = c.scratch.d_normed_SD;

  add_norm_forward<T>(c, w.norm(kFinalNorm), v.x_SD, {v.normed_SD}, v.rows, previous_SD, delta_SD);
  const Ref<const T, 2> normed_ND = c.tp.gather(v.normed_SD).all();
  const Ref<T, 2> d_normed_ND = c.tp.partial(d_normed_SD).all();
  for (const Range& rows : in_pieces({0, label_N.size()}, c.scratch.logits_CV.extent[0])) {
    const Ref<T, 2> logits = chunk_logits(c, rows.count);
    const Ref<const T, 2> normed = row_range(normed_ND, rows);
    linear_forward<T>(c.math, s, logits, normed, w.matrix(kOutput));
    c.made("product with output", "logits", logits);
    vocabulary_loss<T>(c, slice(c.scratch.loss_N, rows), slice(label_N, rows), loss_scale);
    c.made("cross entropy", "the losses", slice(c.scratch.loss_N, rows));
    c.made("cross entropy", "d_logits", logits);
    linear_backward_input<T>(c.math, s, row_range(d_normed_ND, rows), logits, w.matrix(kOutput));
    linear_backward_weight<T>(c.math, s, g.matrix(kOutput), logits, normed,
                              rows.first == 0 ? write : Write::accumulate);
  }
  c.made("product with output, backward", "this rank's part of d_normed", d_normed_ND);
  c.tp.reduce_scatter(d_normed_SD);
  norm_backward<T>(c, w.norm(kFinalNorm), g.norm(kFinalNorm), dx_SD, d_normed_SD, {}, v.x_SD,
                   v.rows, write, dx_amax);
  c.made("final norm, backward", "dx", dx_SD);
}

template <class T>
void head_forward(StageContext<T>& c, const HeadSaved<T>& v, Ref<const T, 2> previous_SD,
                  Ref<const T, 2> delta_SD, Ref<const std::int32_t, 1> label_N,
                  const UnitView<const T>& w) {
  add_norm_forward<T>(c, w.norm(kFinalNorm), v.x_SD, {v.normed_SD}, v.rows, previous_SD, delta_SD);
  const Ref<const T, 2> normed_ND = c.tp.gather(v.normed_SD).all();
  for (const Range& rows : in_pieces({0, label_N.size()}, c.scratch.logits_CV.extent[0])) {
    linear_forward<T>(c.math, c.stream, chunk_logits(c, rows.count), row_range(normed_ND, rows),
                      w.matrix(kOutput));
    // The logits become gradients that nobody asks for: one more write of them than needed.
    vocabulary_loss<T>(c, slice(c.scratch.loss_N, rows), slice(label_N, rows), 0.0F);
  }
}

#define KOIOS_INSTANTIATE(T)                                                                      \
  template void head_forward_backward<T>(                                                         \
      StageContext<T>&, const HeadSaved<T>&, Ref<T, 2>, Ref<const T, 2>, Ref<const T, 2>,         \
      Ref<const std::int32_t, 1>, float, const UnitView<const T>&, const UnitView<float>&, Write, \
      Ref<float, 1>);                                                                             \
  template void head_forward<T>(StageContext<T>&, const HeadSaved<T>&, Ref<const T, 2>,           \
                                Ref<const T, 2>, Ref<const std::int32_t, 1>,                      \
                                const UnitView<const T>&);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
