#include "data/stream_source.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "data/dataset_files.hpp"

namespace koios {
namespace {

/// No stream may be without a document, so there are no more streams than documents.
std::int64_t count_streams(const DataSource& data, const DataOptions& options, RecordReader reader,
                           std::size_t files) {
  const std::int64_t wanted = options.shuffle ? options.streams : 1;
  while (reader.mark().record < wanted && reader.skip()) {
  }
  const std::int64_t found = reader.mark().record;
  if (found == 0) {
    throw UserError(cat(data.path, ": no documents in ", files, files == 1 ? " file" : " files",
                        " (format ", to_string(data.format), "): there is no text to train on"));
  }
  return std::min(wanted, found);
}

}  // namespace

StreamSource::StreamSource(const DataSource& data, const DataOptions& options,
                           const Tokenizer& tokenizer)
    : path_(data.path) {
  KOIOS_REQUIRE(options.streams > 0, options.streams, " streams");
  const auto files = find_dataset_files(data.path, data.format, options.split, options.bad_data);
  fingerprint_ = files_fingerprint(files);
  const auto open = [&] { return RecordReader(data.format, files, options.bad_data); };
  const auto count = count_streams(data, options, open(), files.size());
  for (std::int64_t stream = 0; stream < count; ++stream) {
    const StreamOptions share{stream, count, options.seed, options.shuffle, options.shuffle_window};
    streams_.emplace_back(DocumentStream(open(), share), tokenizer, options.marks);
  }
  taken_.resize(streams_.size());
}

std::int64_t StreamSource::share(std::int64_t stream, std::int64_t samples) const {
  return (samples - stream + streams() - 1) / streams();
}

void StreamSource::take(std::span<std::int32_t> sample, std::span<std::int32_t> document_start) {
  const std::int64_t stream = next_sample_ % streams();
  const auto index = static_cast<std::size_t>(stream);
  // What was skipped goes where the sample will stand.
  for (; taken_[index] < share(stream, next_sample_); ++taken_[index]) {
    streams_[index].take(sample, document_start);
  }
  streams_[index].take(sample, document_start);
  ++taken_[index];
  ++next_sample_;
}

std::int64_t StreamSource::epoch() const {
  std::int64_t latest = 0;
  for (const TokenStream& stream : streams_) latest = std::max(latest, stream.epoch());
  return latest;
}

SourceState StreamSource::state() const {
  SourceState state{next_sample_, fingerprint_, {}};
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    state.streams.push_back(streams_[i].state());
    state.streams.back().samples = taken_[i];
  }
  return state;
}

void StreamSource::restore(const SourceState& state) {
  if (state.fingerprint != fingerprint_) {
    throw UserError(cat(path_, ": the data has changed since the position in it was saved: other ",
                        "files, or files of other sizes"));
  }
  if (std::ssize(state.streams) != streams()) {
    throw UserError(cat(path_, ": the saved position in the data is of ", state.streams.size(),
                        " streams, this run has ", streams(),
                        ": data/streams and the data must be those of the run that saved it"));
  }
  next_sample_ = state.samples;
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    streams_[i].restore(state.streams[i]);
    taken_[i] = state.streams[i].samples;
    KOIOS_REQUIRE(taken_[i] <= share(static_cast<std::int64_t>(i), next_sample_), "stream ", i,
                  ": ", taken_[i], " samples of ", next_sample_);
  }
}

}  // namespace koios
