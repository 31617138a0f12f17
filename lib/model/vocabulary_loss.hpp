// Cross entropy over a vocabulary that the ranks of a tensor-parallel group share: each has the
// logits of its own tokens only. With loss parallelism they stay there, and the ranks exchange
// three numbers a row (the maximum; the sum of exponentials and the label's logit); without it a
// chunk's logits are gathered. One rank alone has them all.
#pragma once

#include <cstdint>

#include "model/block.hpp"

namespace koios {

/// Where the logits of a chunk of `count` rows go: this rank's columns.
template <class T>
Ref<T, 2> chunk_logits(StageContext<T>& c, std::int64_t count);

/// From the logits in chunk_logits(c, count): the rows' losses, the same on every rank, and, in the
/// logits' place, scale times their gradient.
template <class T>
void vocabulary_loss(StageContext<T>& c, Ref<float, 1> loss_C, Ref<const std::int32_t, 1> label_C,
                     float scale);

}  // namespace koios
