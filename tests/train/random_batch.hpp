// One logical sequence of random samples, for tests of training on several meshes.
#pragma once

#include <cstdint>

#include "core/random.hpp"
#include "data/batch.hpp"
#include "data/embedding_index.hpp"

namespace koios::testing {

inline std::uint32_t random_at(std::uint64_t seed, std::int64_t sample, std::int64_t t) {
  return philox(seed, static_cast<std::uint64_t>(sample), static_cast<std::uint64_t>(t)).word[0];
}

/// Sequences [first, first + count) of random tokens below vocab. Documents begin at each token
/// with a chance of 1 / document_len; 0: each sequence is one document.
inline Batch random_batch(std::int64_t first, std::int64_t count, std::int64_t seq_len,
                          std::int64_t vocab, std::uint32_t document_len = 0) {
  Batch b;
  b.sequences = count;
  b.seq_len = seq_len;
  for (std::int64_t sample = first; sample < first + count; ++sample) {
    std::int64_t begin = 0;
    for (std::int64_t t = 0; t < seq_len; ++t) {
      if (document_len > 0 && random_at(8, sample, t) % document_len == 0) begin = t;
      b.tokens.push_back(static_cast<std::int32_t>(random_at(7, sample, t) % vocab));
      b.labels.push_back(static_cast<std::int32_t>(random_at(7, sample, t + 1) % vocab));
      b.document_start.push_back(static_cast<std::int32_t>(begin));
    }
  }
  b.index = make_embedding_index(b.tokens);
  return b;
}

/// One after the other, of `each` samples from `first` on: make(its first sample, each).
template <class Make>
auto batches_from(std::int64_t first, std::int64_t each, Make make) {
  return [=]() mutable {
    first += each;
    return make(first - each, each);
  };
}

}  // namespace koios::testing
