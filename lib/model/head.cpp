#include "model/head.hpp"

#include <algorithm>

#include "model/norm.hpp"
#include "model/vocabulary_loss.hpp"

namespace koios {

template <class T>
void head_forward_backward(BlockContext<T>& c, Ref<const T, 2> previous_SD,
                           Ref<const std::int32_t, 1> label_N, float loss_scale,
                           const UnitView<const T>& w, const UnitView<float>& g, Write write) {
  Stream& s = c.stream;
  LlamaBuffers<T>& b = c.buffers;
  const std::int64_t tokens = label_N.size();
  const std::int64_t chunk = b.logits_CV.extent[0];

  const RowStatistics rows{b.rstd_S, b.mean_S};
  add_norm_forward<T>(c, w, kFinalNorm, b.x_SD, b.normed_SD, rows, previous_SD);
  const Ref<const T, 2> normed_ND = c.tp.gather(b.normed_SD).all();
  const Ref<T, 2> d_normed_ND = c.tp.partial(b.d_normed_SD).all();
  for (std::int64_t first = 0; first < tokens; first += chunk) {
    const std::int64_t count = std::min(chunk, tokens - first);
    const Ref<T, 2> logits = chunk_logits(c, count);
    const Ref<const T, 2> normed = row_range(normed_ND, first, count);
    linear_forward<T>(c.math, s, logits, normed, w.matrix(kOutput));
    vocabulary_loss<T>(c, slice(b.loss_N, first, count), slice(label_N, first, count), loss_scale);
    linear_backward_input<T>(c.math, s, row_range(d_normed_ND, first, count), logits,
                             w.matrix(kOutput));
    linear_backward_weight<T>(c.math, s, g.matrix(kOutput), logits, normed,
                              first == 0 ? write : Write::accumulate);
  }
  c.tp.reduce_scatter(b.d_normed_SD);
  norm_backward<T>(c, w, g, kFinalNorm, {}, b.x_SD, rows, write);
}

template <class T>
void head_forward(BlockContext<T>& c, Ref<const T, 2> previous_SD,
                  Ref<const std::int32_t, 1> label_N, const UnitView<const T>& w) {
  LlamaBuffers<T>& b = c.buffers;
  const std::int64_t tokens = label_N.size();
  const std::int64_t chunk = b.logits_CV.extent[0];

  add_norm_forward<T>(c, w, kFinalNorm, b.x_SD, b.normed_SD, {b.rstd_S, b.mean_S}, previous_SD);
  const Ref<const T, 2> normed_ND = c.tp.gather(b.normed_SD).all();
  for (std::int64_t first = 0; first < tokens; first += chunk) {
    const std::int64_t count = std::min(chunk, tokens - first);
    linear_forward<T>(c.math, c.stream, chunk_logits(c, count), row_range(normed_ND, first, count),
                      w.matrix(kOutput));
    // The logits become gradients that nobody asks for: one more write of them than needed.
    vocabulary_loss<T>(c, slice(b.loss_N, first, count), slice(label_N, first, count), 0.0F);
  }
}

template void head_forward<float>(BlockContext<float>&, Ref<const float, 2>,
                                  Ref<const std::int32_t, 1>, const UnitView<const float>&);
template void head_forward<bf16>(BlockContext<bf16>&, Ref<const bf16, 2>,
                                 Ref<const std::int32_t, 1>, const UnitView<const bf16>&);
template void head_forward_backward<float>(BlockContext<float>&, Ref<const float, 2>,
                                           Ref<const std::int32_t, 1>, float,
                                           const UnitView<const float>&, const UnitView<float>&,
                                           Write);
template void head_forward_backward<bf16>(BlockContext<bf16>&, Ref<const bf16, 2>,
                                          Ref<const std::int32_t, 1>, float,
                                          const UnitView<const bf16>&, const UnitView<float>&,
                                          Write);

}  // namespace koios
