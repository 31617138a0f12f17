// Documents read and tokenized as they are needed: sample j is the next seq_len + 1 tokens of
// stream j mod S. A stream moves only when one of its samples is taken; those skipped before are
// made up for then. So a data-parallel rank reads the streams whose samples it takes, and where S
// is the number of sequences in a step, or a multiple, no two ranks read the same one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/data_options.hpp"
#include "data/sample_source.hpp"

namespace koios {

/// Samples of one of `streams` streams among the first `samples` of all.
std::int64_t samples_of_stream(std::int64_t stream, std::int64_t streams, std::int64_t samples);

class StreamSource final : public SampleSource {
 public:
  /// Finds the files of `data` and at least one document. `tokenizer` must outlive the source.
  StreamSource(const DataSource& data, const DataOptions& options, const Tokenizer& tokenizer);

  void take(std::span<std::int32_t> sample, std::span<std::int32_t> document_start) override;
  void skip() override { ++next_sample_; }
  std::int64_t epoch() const override;
  std::int64_t streams() const override { return std::ssize(streams_); }
  SourceState state() const override;
  void restore(const SourceState& state) override;

 private:
  std::string path_;
  std::uint64_t fingerprint_ = 0;
  std::int64_t next_sample_ = 0;
  std::vector<TokenStream> streams_;
  std::vector<std::int64_t> taken_;  // of each stream; behind share() where samples were skipped
};

}  // namespace koios
