// Softmax cross entropy over rows of logits, loss and gradient in one go.
// Legend: N rows (tokens of a chunk), V vocabulary.
#pragma once

#include <cstdint>

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// loss_N[n] = logsumexp(logits[n]) - logits[n][label[n]] in float32, and the logits are replaced
/// by their gradient (softmax - onehot) * scale. A label of -1 marks a token that does not count:
/// loss 0, gradient 0.
template <class T>
void cross_entropy_forward_backward(Stream& s, Ref<float, 1> loss_N, Ref<T, 2> logits_NV,
                                    Ref<const std::int32_t, 1> label_N, float scale);

/// Only the losses; the logits stay.
template <class T>
void cross_entropy_forward(Stream& s, Ref<float, 1> loss_N, Ref<const T, 2> logits_NV,
                           Ref<const std::int32_t, 1> label_N);

}  // namespace koios
