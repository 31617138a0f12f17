#include "model/vocabulary_loss.hpp"

#include "kernels/cross_entropy.hpp"
#include "kernels/elementwise.hpp"
#include "runtime/copy.hpp"
#include "runtime/region.hpp"

namespace koios {
namespace {

/// The columns of `rank`.
template <class T>
Ref<T, 2> columns_of(const StageContext<T>& c, Ref<T, 2> logits_CV, int rank) {
  const std::int64_t columns = c.local.vocab;
  return column_range(logits_CV, rank * columns, columns);
}

/// Brings every rank's columns into logits_CV.
template <class T>
void gather_logits(StageContext<T>& c, Ref<T, 2> logits_CV) {
  const std::int64_t rows = logits_CV.extent[0];
  // One rank's columns after the other's, as a gather moves them.
  const auto parts = make_ref(c.scratch.logit_parts.data, rows * c.tp.size(), c.local.vocab);
  const auto part = [&](int rank) { return row_range(parts, rank * rows, rows); };
  copy_matrix<T>(c.stream, part(c.tp.rank()), columns_of(c, logits_CV, c.tp.rank()));
  c.tp.all_gather(any(parts));
  for (int rank = 0; rank < c.tp.size(); ++rank) {
    if (rank != c.tp.rank()) copy_matrix<T>(c.stream, columns_of(c, logits_CV, rank), part(rank));
  }
}

template <class T>
void loss_of_shares(StageContext<T>& c, Ref<float, 1> loss_C, Ref<T, 2> logits_CV,
                    Ref<const std::int32_t, 1> label_C, float scale) {
  const std::int64_t rows = loss_C.size();
  const std::int64_t first = c.tp.rank() * c.local.vocab;
  const auto statistic = [&](int i) { return slice(c.scratch.softmax_4C, i * rows, rows); };
  const SoftmaxParts parts{statistic(0), statistic(1), statistic(2)};
  const SoftmaxParts all{statistic(3), parts.sum_N, parts.target_N};
  softmax_parts<T>(c.stream, parts, logits_CV, label_C, first);
  copy(c.stream, any(all.max_N), any(parts.max_N));
  c.tp.all_reduce(any(all.max_N), ReduceOp::max);
  rescale_parts(c.stream, parts, all.max_N);
  c.tp.all_reduce(any(slice(c.scratch.softmax_4C, rows, 2 * rows)),
                  ReduceOp::sum);  // sum and target
  cross_entropy_of_parts<T>(c.stream, loss_C, logits_CV, all, label_C, first, scale);
}

}  // namespace

template <class T>
Ref<T, 2> chunk_logits(StageContext<T>& c, std::int64_t count) {
  const Ref<T, 2> logits = row_range(c.scratch.logits_CV, 0, count);
  return logits.extent[1] == c.local.vocab ? logits : columns_of(c, logits, c.tp.rank());
}

template <class T>
void vocabulary_loss(StageContext<T>& c, Ref<float, 1> loss_C, Ref<const std::int32_t, 1> label_C,
                     float scale) {
  const Ref<T, 2> logits = row_range(c.scratch.logits_CV, 0, loss_C.size());
  if (c.tp.size() > 1 && c.tensor.loss_parallel) {
    return loss_of_shares(c, loss_C, logits, label_C, scale);
  }
  if (c.tp.size() > 1) gather_logits(c, logits);
  const Region region(c.stream, "cross entropy", passes_over(logits, logits));
  cross_entropy_forward_backward<T>(c.stream, loss_C, logits, label_C, scale);
}

template Ref<float, 2> chunk_logits<float>(StageContext<float>&, std::int64_t);
template Ref<bf16, 2> chunk_logits<bf16>(StageContext<bf16>&, std::int64_t);
template void vocabulary_loss<float>(StageContext<float>&, Ref<float, 1>,
                                     Ref<const std::int32_t, 1>, float);
template void vocabulary_loss<bf16>(StageContext<bf16>&, Ref<float, 1>, Ref<const std::int32_t, 1>,
                                    float);

}  // namespace koios
