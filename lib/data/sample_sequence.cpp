#include "data/sample_sequence.hpp"

#include <algorithm>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "data/dataset_files.hpp"

namespace koios {
namespace {

/// No stream may be without a document, so there are no more streams than documents.
std::int64_t count_streams(const DataOptions& options, RecordReader reader, std::size_t files) {
  const std::int64_t wanted = options.shuffle ? options.streams : 1;
  while (reader.mark().record < wanted && reader.skip()) {
  }
  const std::int64_t found = reader.mark().record;
  if (found == 0) {
    throw UserError(cat(options.path, ": no documents in ", files, files == 1 ? " file" : " files",
                        " (format ", to_string(options.format), "): there is no text to train on"));
  }
  return std::min(wanted, found);
}

}  // namespace

SampleSequence::SampleSequence(const DataOptions& options, const Tokenizer& tokenizer)
    : sample_size_(options.seq_len + 1),
      skipped_(2 * static_cast<std::size_t>(options.seq_len + 1)) {
  KOIOS_REQUIRE(options.seq_len > 0 && options.streams > 0, options.seq_len, ", ", options.streams);
  if (options.vocab_size > 0 && tokenizer.vocab_size() > options.vocab_size) {
    throw UserError(cat("the tokenizer has ", tokenizer.vocab_size(),
                        " pieces, the model's vocabulary only ", options.vocab_size,
                        ": raise model/vocab_size, or set it to 0 to follow the tokenizer"));
  }
  const auto files =
      find_dataset_files(options.path, options.format, options.split, options.bad_data);
  const auto open = [&] { return RecordReader(options.format, files, options.bad_data); };
  const auto count = count_streams(options, open(), files.size());
  for (std::int64_t stream = 0; stream < count; ++stream) {
    const StreamOptions share{stream, count, options.seed, options.shuffle, options.shuffle_window};
    streams_.emplace_back(DocumentStream(open(), share), tokenizer);
  }
}

void SampleSequence::take(std::span<std::int32_t> sample, std::span<std::int32_t> document_start) {
  KOIOS_REQUIRE(std::ssize(sample) == sample_size_, sample.size(), " tokens of ", sample_size_);
  streams_[static_cast<std::size_t>(next_sample_ % streams())].take(sample, document_start);
  ++next_sample_;
}

void SampleSequence::skip() {
  const auto size = static_cast<std::size_t>(sample_size_);
  take(std::span(skipped_).first(size), std::span(skipped_).last(size));
}

std::int64_t SampleSequence::epoch() const {
  std::int64_t latest = 0;
  for (const TokenStream& stream : streams_) latest = std::max(latest, stream.epoch());
  return latest;
}

SequenceState SampleSequence::state() const {
  SequenceState state{next_sample_, {}};
  for (const TokenStream& stream : streams_) state.streams.push_back(stream.state());
  return state;
}

void SampleSequence::restore(const SequenceState& state) {
  SequenceState from = state;
  if (from == SequenceState{}) from.streams.resize(streams_.size());
  if (from.streams.size() != streams_.size()) {
    throw UserError(cat("the saved position in the data is of ", from.streams.size(),
                        " streams, this run has ", streams_.size(),
                        ": data/streams and the data must be those of the run that saved it"));
  }
  next_sample_ = from.next_sample;
  for (std::size_t i = 0; i < streams_.size(); ++i) streams_[i].restore(from.streams[i]);
}

}  // namespace koios
