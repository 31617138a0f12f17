#include "data/saved_position.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/random.hpp"
#include "data/stream_source.hpp"

namespace koios {
namespace {

using List = std::vector<std::int64_t>;

/// Over all the others.
constexpr const char* kCheck = "position_check";

/// The integers of a stream's position; each is a list over the streams of all sources.
constexpr std::array kStreamLists = {
    "stream_samples",      "stream_epoch",        "stream_window",     "stream_index",
    "stream_token_offset", "window_start_record", "window_start_file", "window_start_byte",
    "window_start_line",   "stream_moved",        "window_text"};
/// These first ones are in every checkpoint; the others are 0 where they are not.
constexpr std::size_t kOldLists = 9;

std::array<std::int64_t*, kStreamLists.size()> integers_of(StreamState& s) {
  DocumentPosition& at = s.document;
  RecordMark& start = at.window_start;
  return {&s.samples,  &at.epoch,   &at.window,  &at.index, &s.token_offset, &start.record,
          &start.file, &start.byte, &start.line, &at.moved, &at.window_text};
}

// What no run reaches: sums and products of integers below these do not overflow.
constexpr std::int64_t kMostSamples = std::int64_t{1} << 40;
constexpr std::int64_t kMostOfAnything = std::int64_t{1} << 56;
constexpr std::int64_t kMostStreams = std::int64_t{1} << 16;  // as data/streams

[[noreturn]] void refuse(const std::string& what) {
  throw UserError(cat("the saved position in the data is damaged: ", what));
}

void require_range(const char* name, const List& list, std::int64_t most = kMostOfAnything) {
  for (const std::int64_t value : list) {
    if (value < 0 || value > most) refuse(cat(name, " has ", value));
  }
}

/// Counts fit each other: datasets take turns by their shares.
void require_counts(const SequenceState& state, const List& streams, const List& samples) {
  require_range("next_sample", {state.next_sample}, kMostSamples);
  require_range("seq_len", {state.seq_len}, kMostStreams * kMostStreams);
  require_range("source_streams", streams, kMostStreams);
  require_range("source_samples", samples, kMostSamples);
  require_range("source_share", state.shares, 1'000'000);
  if (streams.empty()) refuse("it is of no dataset");
  std::int64_t sum = 0;
  std::int64_t shares = 0;
  for (std::size_t s = 0; s < samples.size(); ++s) {
    sum += samples[s];
    shares += state.shares[s];
  }
  if (sum != state.next_sample) {
    refuse(cat("next_sample is ", state.next_sample, ", the datasets have given ", sum));
  }
  for (std::size_t s = 0; s < samples.size(); ++s) {
    const auto due = static_cast<double>(state.next_sample) * static_cast<double>(state.shares[s]) /
                     static_cast<double>(std::max<std::int64_t>(1, shares));
    const auto most_apart = static_cast<double>(samples.size()) + 1e-6 * due;
    if (std::abs(static_cast<double>(samples[s]) - due) > most_apart) {
      refuse(cat("dataset ", s, " has given ", samples[s], " of ", sum,
                 " samples, which is not its share"));
    }
  }
}

/// A stream has passed over no more than it gave; one that gave nothing is at its beginning.
void require_course(StreamState stream, std::int64_t seq_len, const std::string& name) {
  const std::int64_t samples = std::exchange(stream.samples, 0);
  if (samples == 0 && stream != StreamState{}) refuse(cat(name, " has given nothing, and moved"));
  for (const auto& [of, value] : {std::pair("stream_epoch", stream.document.epoch),
                                  std::pair("stream_token_offset", stream.token_offset)}) {
    if (value / (seq_len + 1) > samples) {
      refuse(cat(of, " of ", name, " is ", value, ", it has given ", samples, " samples of ",
                 seq_len + 1, " tokens"));
    }
  }
}

/// A list of `size` integers; of any size where that is negative.
const List& find(const SavedPosition& saved, const std::string& name, std::int64_t size = -1) {
  const auto at = saved.find(name);
  if (at == saved.end()) throw UserError(cat("the saved position in the data lacks ", name));
  if (size >= 0 && std::ssize(at->second) != size) {
    throw UserError(cat("the saved position in the data is inconsistent: ", name, " has ",
                        at->second.size(), " integers, not ", size));
  }
  return at->second;
}

}  // namespace

SavedPosition save_position(const SequenceState& state) {
  SavedPosition saved;
  saved["next_sample"] = {state.next_sample};
  saved["seq_len"] = {state.seq_len};
  saved["tokenizer_hash"] = {static_cast<std::int64_t>(state.tokenizer_hash)};
  saved["source_share"] = state.shares;
  List& samples = saved["source_samples"];
  List& fingerprints = saved["source_fingerprint"];
  List& streams = saved["source_streams"];
  for (const char* name : kStreamLists) saved[name] = {};
  for (const SourceState& source : state.sources) {
    samples.push_back(source.samples);
    fingerprints.push_back(static_cast<std::int64_t>(source.fingerprint));
    streams.push_back(std::ssize(source.streams));
    for (StreamState stream : source.streams) {
      const auto integers = integers_of(stream);
      for (std::size_t i = 0; i < integers.size(); ++i) {
        saved[kStreamLists[i]].push_back(*integers[i]);
      }
    }
  }
  saved[kCheck] = {static_cast<std::int64_t>(hash_of(saved))};
  return saved;
}

std::uint64_t hash_of(const SavedPosition& position) {
  std::uint64_t hash = 0;
  for (const auto& [name, list] : position) {
    hash = mix64(hash + stream_of(name));
    for (const std::int64_t value : list) hash = mix64(hash + static_cast<std::uint64_t>(value));
  }
  return hash;
}

SequenceState restore_position(const SavedPosition& saved) {
  if (saved.contains(kCheck)) {
    SavedPosition others = saved;
    others.erase(kCheck);
    if (static_cast<std::int64_t>(hash_of(others)) != find(saved, kCheck, 1)[0]) {
      refuse("its integers do not have their checksum");
    }
  }
  SequenceState state;
  state.next_sample = find(saved, "next_sample", 1)[0];
  state.seq_len = find(saved, "seq_len", 1)[0];
  state.tokenizer_hash = static_cast<std::uint64_t>(find(saved, "tokenizer_hash", 1)[0]);
  const List& streams = find(saved, "source_streams");
  const auto count = std::ssize(streams);
  state.shares = find(saved, "source_share", count);
  const List& samples = find(saved, "source_samples", count);
  const List& fingerprints = find(saved, "source_fingerprint", count);
  require_counts(state, streams, samples);

  const std::int64_t all_streams = std::accumulate(streams.begin(), streams.end(), std::int64_t{0});
  const List zeros(narrow<std::size_t>(all_streams));
  std::array<const List*, kStreamLists.size()> lists{};
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const bool is_there = i < kOldLists || saved.contains(kStreamLists[i]);
    lists[i] = is_there ? &find(saved, kStreamLists[i], all_streams) : &zeros;
    require_range(kStreamLists[i], *lists[i]);
  }
  std::size_t next = 0;
  for (std::size_t s = 0; s < streams.size(); ++s) {
    SourceState source{samples[s], static_cast<std::uint64_t>(fingerprints[s]), {}};
    for (std::int64_t k = 0; k < streams[s]; ++k, ++next) {
      StreamState& stream = source.streams.emplace_back();
      const auto integers = integers_of(stream);
      for (std::size_t i = 0; i < integers.size(); ++i) *integers[i] = (*lists[i])[next];
      const std::int64_t expected = samples_of_stream(k, streams[s], samples[s]);
      if (stream.samples != expected) {
        refuse(cat("stream ", k, " of ", streams[s], " has given ", stream.samples,
                   " samples, not ", expected, " of ", samples[s]));
      }
      require_course(stream, state.seq_len, cat("stream ", k, " of ", streams[s]));
    }
    state.sources.push_back(std::move(source));
  }
  return state;
}

std::vector<std::int64_t> to_integers(const SequenceState& state) {
  List all = {state.next_sample, state.seq_len, static_cast<std::int64_t>(state.tokenizer_hash)};
  for (std::size_t s = 0; s < state.sources.size(); ++s) {
    const SourceState& source = state.sources[s];
    all.insert(all.end(),
               {state.shares[s], source.samples, static_cast<std::int64_t>(source.fingerprint),
                std::ssize(source.streams)});
    for (StreamState stream : source.streams) {
      for (const std::int64_t* value : integers_of(stream)) all.push_back(*value);
    }
  }
  return all;
}

SequenceState from_integers(std::span<const std::int64_t> integers) {
  auto next = integers.begin();
  SequenceState state;
  state.next_sample = *next++;
  state.seq_len = *next++;
  state.tokenizer_hash = static_cast<std::uint64_t>(*next++);
  while (next != integers.end()) {
    state.shares.push_back(*next++);
    SourceState& source = state.sources.emplace_back();
    source.samples = *next++;
    source.fingerprint = static_cast<std::uint64_t>(*next++);
    source.streams.resize(narrow<std::size_t>(*next++));
    for (StreamState& stream : source.streams) {
      for (std::int64_t* value : integers_of(stream)) *value = *next++;
    }
  }
  return state;
}

SequenceState furthest(const SequenceState& of_this_rank, const MpiEnv& mpi) {
  SequenceState state = of_this_rank;
  List records;  // a stream's integers each, the first of which is its samples
  const auto add = [&](const auto& integers) {
    records.insert(records.end(), integers.begin(), integers.end());
  };
  for (SourceState& source : state.sources) {
    for (StreamState& stream : source.streams) {
      for (const std::int64_t* value : integers_of(stream)) records.push_back(*value);
    }
  }
  constexpr std::size_t kSize = kStreamLists.size();
  add(std::array<std::int64_t, kSize>{state.next_sample});
  add(std::array<std::int64_t, kSize>{-state.next_sample});
  mpi.all_keep_largest(records, kSize);
  const auto rank_ends = std::span(records).last(2 * kSize);
  KOIOS_REQUIRE(rank_ends[0] == state.next_sample && -rank_ends[kSize] == state.next_sample,
                "the ranks are at different places in the data: ", -rank_ends[kSize], " and ",
                rank_ends[0]);
  auto next = records.begin();
  for (SourceState& source : state.sources) {
    for (StreamState& stream : source.streams) {
      for (std::int64_t* value : integers_of(stream)) *value = *next++;
    }
  }
  return state;
}

}  // namespace koios
