#include "data/embedding_index.hpp"

#include <algorithm>

#include "core/integers.hpp"

namespace koios {

EmbeddingIndex make_embedding_index(std::span<const std::int32_t> tokens) {
  const auto count = narrow<std::int32_t>(std::ssize(tokens));
  std::vector<std::int64_t> keys(tokens.size());  // token in the upper half, position in the lower
  for (std::int32_t i = 0; i < count; ++i) {
    keys[static_cast<std::size_t>(i)] =
        (std::int64_t{tokens[static_cast<std::size_t>(i)]} << 32) | i;
  }
  std::ranges::sort(keys);

  EmbeddingIndex index;
  index.position.reserve(keys.size());
  for (const std::int64_t key : keys) {
    const auto token = static_cast<std::int32_t>(key >> 32);
    if (index.segment_token.empty() || index.segment_token.back() != token) {
      index.segment_begin.push_back(narrow<std::int32_t>(std::ssize(index.position)));
      index.segment_token.push_back(token);
    }
    index.position.push_back(static_cast<std::int32_t>(key));
  }
  index.segment_begin.push_back(count);
  return index;
}

}  // namespace koios
