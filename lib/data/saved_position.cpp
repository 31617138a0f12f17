#include "data/saved_position.hpp"

#include <functional>
#include <utility>

#include "core/error.hpp"

namespace koios {
namespace {

constexpr const char* kNextSample = "next_sample";

/// The integers of a stream's position; each is a list over the streams.
std::vector<std::pair<const char*, std::function<std::int64_t&(StreamState&)>>> fields() {
  return {{"stream_epoch", [](StreamState & s) -> auto& {return s.document.epoch;
}
}  // namespace
, {"stream_window", [](StreamState& s) -> auto& {return s.document.window;
}  // namespace koios
}
, {"stream_index", [](StreamState& s) -> auto& {return s.document.index;
}
}
, {"stream_token_offset", [](StreamState& s) -> auto& {return s.token_offset;
}
}
, {"window_start_record", [](StreamState& s) -> auto& {return s.document.window_start.record;
}
}
, {"window_start_file", [](StreamState& s) -> auto& {return s.document.window_start.file;
}
}
, {"window_start_byte", [](StreamState& s) -> auto& {return s.document.window_start.byte;
}
}
, {"window_start_line", [](StreamState& s) -> auto& {return s.document.window_start.line;
}
}
,
}
;
}

const std::vector<std::int64_t>& find(const SavedPosition& saved, const std::string& name) {
  const auto at = saved.find(name);
  if (at == saved.end()) throw UserError(cat("the saved position in the data lacks ", name));
  return at->second;
}

}  // namespace

SavedPosition save_position(const SequenceState& state) {
  SavedPosition saved;
  saved[kNextSample] = {state.next_sample};
  for (const auto& [name, field] : fields()) {
    std::vector<std::int64_t>& list = saved[name];
    for (StreamState stream : state.streams) list.push_back(field(stream));
  }
  return saved;
}

SequenceState restore_position(const SavedPosition& saved) {
  SequenceState state;
  const auto& next_sample = find(saved, kNextSample);
  state.streams.resize(find(saved, fields().front().first).size());
  for (const auto& [name, field] : fields()) {
    const std::vector<std::int64_t>& list = find(saved, name);
    if (list.size() != state.streams.size() || next_sample.size() != 1) {
      throw UserError(cat("the saved position in the data is inconsistent at ", name));
    }
    for (std::size_t i = 0; i < list.size(); ++i) field(state.streams[i]) = list[i];
  }
  state.next_sample = next_sample.front();
  return state;
}

}  // namespace koios
