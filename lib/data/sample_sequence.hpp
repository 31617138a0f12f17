// The one logical sequence of samples: sample j is the next seq_len + 1 tokens of stream j mod S.
// It depends on the data, the tokenizer, seed, seq_len, S and the shuffle window, and on no mesh.
//
// Every data-parallel rank walks the whole sequence, tokenizing what other ranks keep. At 2 to
// 3 MB/s a core that is nothing for small runs, and too much for large ones; there the samples
// would come from a token file, or from one process a node, behind these same functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/data_options.hpp"
#include "data/token_stream.hpp"
#include "data/tokenizer.hpp"

namespace koios {

/// Where the next sample begins; the default is the beginning of the sequence.
struct SequenceState {
  std::int64_t next_sample = 0;
  std::vector<StreamState> streams;

  bool operator==(const SequenceState&) const = default;
};

class SampleSequence {
 public:
  /// Finds the files and at least one document. `tokenizer` must outlive the sequence.
  SampleSequence(const DataOptions& options, const Tokenizer& tokenizer);

  /// The id of the next sample.
  std::int64_t next_sample() const { return next_sample_; }
  /// The next sample, seq_len + 1 tokens, and for each of them the position in the sample at which
  /// its document begins (0 where that was in an earlier sample).
  void take(std::span<std::int32_t> sample, std::span<std::int32_t> document_start);
  void skip();

  /// Passes over the data that some stream has completed: 0 until the first token repeats.
  std::int64_t epoch() const;
  /// S: the deck's number, or that of the documents if there are fewer, or 1 without shuffling.
  std::int64_t streams() const { return std::ssize(streams_); }

  SequenceState state() const;
  void restore(const SequenceState& state);

 private:
  std::int64_t sample_size_;
  std::int64_t next_sample_ = 0;
  std::vector<TokenStream> streams_;
  std::vector<std::int32_t> skipped_;  // a sample and its document starts
};

}  // namespace koios
