// The fallback attention's own kernels. A score block holds, for each of `heads` heads, `queries`
// rows of `keys` scores with a pitch; its first row is query `first_query` of its sequence.
#pragma once

#include <cstdint>

#include "runtime/stream.hpp"

namespace koios::detail {

struct ScoreBlock {
  std::int64_t heads;
  std::int64_t queries;
  std::int64_t keys;
  std::int64_t pitch;
  std::int64_t first_query;
  std::int64_t earlier_keys;           // query i sees the keys up to earlier_keys + i
  const std::int32_t* document_start;  // the first key of each query of the sequence; null: 0
};

/// The lse of head i, query t lies at lse[i * head_step + t].
struct LseRows {
  float* data;
  std::int64_t head_step;
};

/// p = causal softmax of the scores, zero after the diagonal and before the document; p may be the
/// scores' own memory.
template <class T>
void softmax_scores(Stream& stream, const ScoreBlock& block, T* p, LseRows lse,
                    const float* scores);

/// p = exp(scores - lse) and ds = scale * p * (dp - sum_keys p dp), zero where p is; p and ds
/// may be the memory of scores and dp.
template <class T>
void softmax_scores_backward(Stream& stream, const ScoreBlock& block, T* p, T* ds, LseRows lse,
                             const float* scores, const float* dp, float scale);

/// Rounds `heads` float matrices [tokens, head_dim] that lie one after another into slices of
/// head_dim columns of dst.
template <class T>
void store_heads(Stream& stream, T* dst, std::int64_t pitch, const float* src, std::int64_t heads,
                 std::int64_t tokens, std::int64_t head_dim);

}  // namespace koios::detail
