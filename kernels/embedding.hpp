// Token embedding: rows of a table. The backward pass sums the rows of each token in the order of
// a sort made with the batch, so it needs no atomics and gives the same bits every time.
// Legend: N tokens, V vocabulary, D model dimension, S distinct tokens.
#pragma once

#include <cstdint>

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// y = table[token - first]. The table may be a part of the vocabulary, from token `first` on:
/// tokens outside it give rows of zeros, so that the ranks' results add up to the whole's.
template <class T>
void embedding_forward(Stream& s, Ref<T, 2> y_ND, Ref<const std::int32_t, 1> token_N,
                       Ref<const T, 2> table_VD, std::int64_t first = 0);

/// The batch's positions sorted by token (stable): segment j is position[begin[j] .. begin[j+1])
/// and holds every position of token[j].
struct EmbeddingSort {
  Ref<const std::int32_t, 1> position_N;
  Ref<const std::int32_t, 1> begin_S1;  // S + 1 entries
  Ref<const std::int32_t, 1> token_S;
};

/// d_table[token - first] += sum of dy over its positions, in float32, for the tokens in the table.
/// Rows of other tokens are untouched: zero the table's gradient first where it is not accumulated.
template <class T>
void embedding_backward(Stream& s, Ref<float, 2> d_table_VD, Ref<const T, 2> dy_ND,
                        const EmbeddingSort& sort, std::int64_t first = 0);

}  // namespace koios
