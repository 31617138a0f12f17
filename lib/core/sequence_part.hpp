// Which tokens of every sequence a rank has: all, or, where the R ranks of a group share sequences,
// two of 2 R equal chunks. Rank r has the chunks r and 2 R - 1 - r, so that causal attention, in
// which later tokens see more, is as much work for every rank (the zig-zag layout). Both lie one
// after the other in the rank's memory.
#pragma once

#include <cstdint>

#include "core/integers.hpp"

namespace koios {

struct SequencePart {
  int ranks = 1;
  int rank = 0;

  int chunks() const { return ranks == 1 ? 1 : 2; }
  std::int64_t chunk_len(std::int64_t seq_len) const {
    return div_exact(seq_len, std::int64_t{ranks} * chunks());
  }
  /// The position in the sequence of a chunk's first token.
  std::int64_t begin(int chunk, std::int64_t seq_len) const {
    return (chunk == 0 ? rank : 2 * ranks - 1 - rank) * chunk_len(seq_len);
  }
};

}  // namespace koios
