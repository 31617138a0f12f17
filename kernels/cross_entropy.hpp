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

// Where several ranks each have some columns of the logits, those of the vocabulary from `first`
// on:
//   softmax_parts            of the columns here: maximum, sum of exponentials, the label's logit
//   ... all-reduce max of a copy of max_N ...
//   rescale_parts            the sum as if its maximum had been the largest of all ranks
//   ... all-reduce sum of sum_N and target_N ...
//   cross_entropy_of_parts   loss and gradient, as above

/// target_N is 0 where the label is not among the columns here.
struct SoftmaxParts {
  Ref<float, 1> max_N;
  Ref<float, 1> sum_N;
  Ref<float, 1> target_N;
};

template <class T>
void softmax_parts(Stream& s, const SoftmaxParts& parts, Ref<const T, 2> logits_NV,
                   Ref<const std::int32_t, 1> label_N, std::int64_t first);

/// parts.sum_N *= exp(parts.max_N - all_max_N)
void rescale_parts(Stream& s, const SoftmaxParts& parts, Ref<const float, 1> all_max_N);

/// `all` are the values of the whole rows.
template <class T>
void cross_entropy_of_parts(Stream& s, Ref<float, 1> loss_N, Ref<T, 2> logits_NV,
                            const SoftmaxParts& all, Ref<const std::int32_t, 1> label_N,
                            std::int64_t first, float scale);

}  // namespace koios
