// The one logical sequence of samples. It depends on the data, the tokenizer, seed, seq_len, the
// streams and the shuffle window, and on no mesh. Several datasets take turns by their weights:
// each sample is of the one that is furthest behind its share, so that after any number of samples
// each has its share to within one or two.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "data/data_options.hpp"
#include "data/sample_source.hpp"
#include "data/tokenizer.hpp"

namespace koios {

/// Where the next sample begins; the default is the beginning of the sequence.
struct SequenceState {
  std::int64_t next_sample = 0;
  std::int64_t seq_len = 0;
  std::uint64_t tokenizer_hash = 0;
  std::vector<SourceState> sources;
  std::vector<std::int64_t> shares;  // of the sources, in parts of a million

  bool operator==(const SequenceState&) const = default;
};

class SampleSequence {
 public:
  /// Finds the files and at least one sample's data. `tokenizer` must outlive the sequence.
  SampleSequence(const DataOptions& options, const Tokenizer& tokenizer);

  /// The id of the next sample.
  std::int64_t next_sample() const { return next_sample_; }
  /// The next sample, seq_len + 1 tokens, and for each of them the position in the sample at which
  /// its document begins (0 where that was in an earlier sample).
  void take(std::span<std::int32_t> sample, std::span<std::int32_t> document_start);
  void skip();

  /// Passes over the data that were completed, as far as it was read here: 0 until the first token
  /// repeats. Of several datasets, the most.
  std::int64_t epoch() const;
  /// S of the first dataset: the deck's number, or that of the documents if there are fewer, or 1
  /// without shuffling; 0 for token files.
  std::int64_t streams() const { return sources_.front()->streams(); }

  SequenceState state() const;
  void restore(const SequenceState& saved);

 private:
  std::size_t next_source();

  std::int64_t seq_len_;
  std::uint64_t tokenizer_hash_;
  std::int64_t next_sample_ = 0;
  std::vector<std::unique_ptr<SampleSource>> sources_;
  SequenceState beginning_;
  std::vector<std::int64_t> shares_;  // in parts of a million
  std::vector<std::int64_t> credit_;  // what each is behind its share, in millionths of a sample
};

}  // namespace koios
