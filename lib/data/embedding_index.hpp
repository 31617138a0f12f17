// The positions of a batch sorted by token, so that the backward pass of the embedding can sum the
// gradient of each row in a fixed order without atomics (see kernels/embedding.hpp).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace koios {

/// Segment j, position[segment_begin[j]] .. position[segment_begin[j + 1] - 1], holds all positions
/// of segment_token[j] in ascending order; tokens ascend too, so a range of the vocabulary is a
/// range of segments.
struct EmbeddingIndex {
  std::vector<std::int32_t> position;       // N
  std::vector<std::int32_t> segment_begin;  // S + 1
  std::vector<std::int32_t> segment_token;  // S
};

EmbeddingIndex make_embedding_index(std::span<const std::int32_t> tokens);

}  // namespace koios
