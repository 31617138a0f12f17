#include "data/stream_source.hpp"

#include <algorithm>
#include <functional>

#include "core/error.hpp"
#include "core/readable.hpp"
#include "data/dataset_files.hpp"

namespace koios {
namespace {

constexpr std::int64_t kMostUseless = 1'000'000;  // documents in a row

/// How many streams the data is good for: no more than asked for, and none of them without a usable
/// document among those at the front of the data. Looks no further than it must for that, which is
/// as many documents as there are streams unless bad ones are left out.
std::int64_t count_streams(const DataSource& data, const DataOptions& options, RecordReader reader,
                           std::size_t files) {
  const std::int64_t wanted = options.shuffle ? options.streams : 1;
  std::vector<bool> is_usable;  // of the documents so far
  const std::int64_t bad_before = options.bad_data == nullptr ? 0 : options.bad_data->count();
  const auto for_example = [&] {
    return options.bad_data == nullptr ? "" : options.bad_data->for_example(bad_before);
  };
  const auto streams_are_served = [&](std::int64_t streams) {
    std::vector<bool> has(static_cast<std::size_t>(streams));
    for (std::size_t i = 0; i < is_usable.size(); ++i) {
      if (is_usable[i]) has[i % has.size()] = true;
    }
    return std::ranges::all_of(has, std::identity{});
  };
  std::vector<bool> served(static_cast<std::size_t>(wanted));
  std::int64_t lacking = wanted;
  Document document;
  while (lacking > 0 && std::ssize(is_usable) < wanted + kMostUseless && reader.next(document)) {
    const std::size_t stream = is_usable.size() % served.size();
    is_usable.push_back(!document.is_bad);
    if (document.is_bad || served[stream]) continue;
    served[stream] = true;
    --lacking;
  }
  if (is_usable.empty()) {
    throw UserError(cat(data.path, ": no documents in ", counted(files, "file"), " (format ",
                        to_string(data.format), "): there is no text to train on", for_example()));
  }
  if (std::ranges::none_of(is_usable, std::identity{})) {
    throw UserError(cat(data.path, ": none of ", counted(std::ssize(is_usable), "document"),
                        " (format ", to_string(data.format),
                        ") can be used: there is no text to train on", for_example()));
  }
  std::int64_t streams = std::min(wanted, std::ssize(is_usable));
  while (!streams_are_served(streams)) --streams;  // one is
  return streams;
}

}  // namespace

StreamSource::StreamSource(const DataSource& data, const DataOptions& options,
                           const Tokenizer& tokenizer)
    : path_(data.path) {
  KOIOS_REQUIRE(options.streams > 0, options.streams, " streams");
  const DatasetFiles found =
      find_shared_files(data.path, data.format, options.split, options.bad_data, options.readers());
  const std::vector<std::string>& files = found.files;
  fingerprint_ = found.fingerprint;
  const auto open = [&] { return RecordReader(data.format, files, options.bad_data); };
  const auto count = count_streams(data, options, open(), files.size());
  for (std::int64_t stream = 0; stream < count; ++stream) {
    const StreamOptions share{stream, count, options.seed, options.shuffle, options.shuffle_window};
    streams_.emplace_back(DocumentStream(open(), share), tokenizer, options.marks);
  }
  taken_.resize(streams_.size());
}

std::int64_t samples_of_stream(std::int64_t stream, std::int64_t streams, std::int64_t samples) {
  return (samples - stream + streams - 1) / streams;
}

void StreamSource::take(std::span<std::int32_t> sample, std::span<std::int32_t> document_start) {
  const std::int64_t stream = next_sample_ % streams();
  const auto index = static_cast<std::size_t>(stream);
  // What was skipped goes where the sample will stand.
  for (; taken_[index] < samples_of_stream(stream, streams(), next_sample_); ++taken_[index]) {
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
    refuse_changed_data(cat(path_, ": other files, or files of other sizes"));
  }
  if (std::ssize(state.streams) != streams()) {
    throw UserError(cat(path_, ": the saved position in the data is of ", state.streams.size(),
                        " streams, this run has ", streams(),
                        ": data/streams and the data must be those of the run that saved it"));
  }
  next_sample_ = state.samples;
  for (std::int64_t stream = 0; stream < streams(); ++stream) {
    const auto i = static_cast<std::size_t>(stream);
    streams_[i].restore(state.streams[i]);
    taken_[i] = state.streams[i].samples;
    const std::int64_t most = samples_of_stream(stream, streams(), next_sample_);
    KOIOS_REQUIRE(taken_[i] <= most, "stream ", i, ": ", taken_[i], " samples of ", next_sample_);
  }
}

}  // namespace koios
