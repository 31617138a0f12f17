#include "data/saved_position.hpp"

#include <array>
#include <sstream>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {
namespace {

using List = std::vector<std::int64_t>;

/// The integers of a stream's position; each is a list over the streams of all sources.
constexpr std::array kStreamLists = {
    "stream_samples",    "stream_epoch",        "stream_window",
    "stream_index",      "stream_token_offset", "window_start_record",
    "window_start_file", "window_start_byte",   "window_start_line"};

std::array<std::int64_t*, kStreamLists.size()> integers_of(StreamState& s) {
  RecordMark& start = s.document.window_start;
  return {&s.samples,    &s.document.epoch, &s.document.window, &s.document.index, &s.token_offset,
          &start.record, &start.file,       &start.byte,        &start.line};
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
  return saved;
}

SequenceState restore_position(const SavedPosition& saved) {
  SequenceState state;
  state.next_sample = find(saved, "next_sample", 1)[0];
  state.seq_len = find(saved, "seq_len", 1)[0];
  state.tokenizer_hash = static_cast<std::uint64_t>(find(saved, "tokenizer_hash", 1)[0]);
  const List& streams = find(saved, "source_streams");
  const auto count = std::ssize(streams);
  state.shares = find(saved, "source_share", count);
  std::int64_t first = 0;
  for (std::size_t s = 0; s < streams.size(); ++s) {
    SourceState source{find(saved, "source_samples", count)[s],
                       static_cast<std::uint64_t>(find(saved, "source_fingerprint", count)[s]),
                       {}};
    for (std::int64_t k = first; k < first + streams[s]; ++k) {
      const auto integers = integers_of(source.streams.emplace_back());
      for (std::size_t i = 0; i < integers.size(); ++i) {
        const List& list = find(saved, kStreamLists[i]);
        if (k >= std::ssize(list)) find(saved, kStreamLists[i], k + 1);
        *integers[i] = list[static_cast<std::size_t>(k)];
      }
    }
    first += streams[s];
    state.sources.push_back(std::move(source));
  }
  return state;
}

std::string to_text(const SavedPosition& saved) {
  std::ostringstream text;
  for (const auto& [name, list] : saved) {
    text << name << ' ' << list.size();
    for (const std::int64_t value : list) text << ' ' << value;
    text << '\n';
  }
  return text.str();
}

SavedPosition position_from_text(const std::string& text) {
  SavedPosition saved;
  std::istringstream in(text);
  std::string name;
  for (std::size_t size = 0; in >> name >> size;) {
    List& list = saved[name];
    list.resize(size);
    for (std::int64_t& value : list) in >> value;
  }
  return saved;
}

}  // namespace koios
