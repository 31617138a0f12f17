// What a data loader hands to ranks that share sequences, from batches made in a test.
#pragma once

#include "data/batch.hpp"

namespace koios::testing {

/// This part of a batch of whole sequences.
inline Batch part_of(const Batch& whole, const SequencePart& part) {
  Batch b;
  b.sequences = whole.sequences;
  b.seq_len = whole.seq_len;
  b.part = part;
  const std::int64_t count = part.chunk_len(whole.seq_len);
  for (std::int64_t sequence = 0; sequence < whole.sequences; ++sequence) {
    for (int chunk = 0; chunk < part.chunks(); ++chunk) {
      const std::int64_t first = sequence * whole.seq_len + part.begin(chunk, whole.seq_len);
      const auto append = [&](std::vector<std::int32_t> Batch::*what) {
        const auto& from = whole.*what;
        if (from.empty()) return;
        (b.*what).insert((b.*what).end(), from.begin() + first, from.begin() + first + count);
      };
      append(&Batch::tokens);
      append(&Batch::labels);
      append(&Batch::document_start);
    }
  }
  b.index = make_embedding_index(b.tokens);
  return b;
}

}  // namespace koios::testing
