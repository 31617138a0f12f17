// One micro-batch of one data-parallel rank, or this rank's tokens of it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/sequence_part.hpp"
#include "data/embedding_index.hpp"
#include "data/sample_sequence.hpp"

namespace koios {

struct Batch {
  std::int64_t first_sample = 0;     // id of its first sample; the others follow
  std::int64_t epoch = 0;            // passes over the data completed (SampleSequence::epoch)
  std::int64_t sequences = 0;        // B
  std::int64_t seq_len = 0;          // of whole sequences
  SequencePart part;                 // of each sequence: T tokens
  std::vector<std::int32_t> tokens;  // (B, T)
  std::vector<std::int32_t> labels;  // (B, T), the token after each in the sequence
  EmbeddingIndex index;              // of tokens
  /// (B, T), where in its whole sequence each token's document begins; 0 where that was in an
  /// earlier one.
  std::vector<std::int32_t> document_start;

  /// On the last micro-batch of a step: where the next step starts, as this rank knows it.
  std::optional<SequenceState> next_step;
};

}  // namespace koios
