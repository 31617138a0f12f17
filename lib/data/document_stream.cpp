#include "data/document_stream.hpp"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "core/error.hpp"
#include "core/random.hpp"
#include "data/token_file.hpp"

namespace koios {
namespace {

constexpr std::size_t kWindowBytes = 16 * 1024 * 1024;
constexpr std::int64_t kWindowDocuments = 1 << 17;  // which may be empty
constexpr const char* kNothing = "no document in the data can be used";

/// A permutation of 0 .. size-1 (Fisher and Yates) that depends on its arguments only.
std::vector<std::size_t> permutation(std::size_t size, std::uint64_t seed, std::uint64_t key) {
  std::vector<std::size_t> order(size);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = size; i > 1; --i) {
    const Philox4 bits = philox(seed, i, key);
    const std::uint64_t draw = (std::uint64_t{bits.word[0]} << 32) | bits.word[1];
    std::swap(order[i - 1], order[draw % i]);
  }
  return order;
}

/// Of 56 bits, so that it is an integer like the others of a position; never 0.
std::int64_t text_checksum(const std::vector<Document>& documents) {
  std::uint64_t sum = 1;
  for (const Document& document : documents) {
    sum = mix64(sum + checksum(std::as_bytes(std::span(document.text))));
  }
  return static_cast<std::int64_t>(sum >> 8) | 1;
}

std::string place_of(const Document& document) { return cat(document.file, ":", document.line); }

}  // namespace

DocumentStream::DocumentStream(RecordReader reader, const StreamOptions& options)
    : reader_(std::move(reader)), options_(options) {
  KOIOS_REQUIRE(options.stream >= 0 && options.stream < options.streams && options.window > 0,
                options.stream, " of ", options.streams, " streams, window ", options.window);
}

std::int64_t DocumentStream::most_documents() const {
  return std::min(options_.window, kWindowDocuments);
}

void DocumentStream::load_window() {
  window_.clear();
  std::size_t bytes = 0;
  while (std::ssize(window_) < most_documents() && bytes < kWindowBytes) {
    if (reader_.mark().record % options_.streams != share()) {
      if (!reader_.skip()) break;
      continue;
    }
    Document document;
    if (!reader_.next(document)) break;
    if (document.is_bad) continue;
    bytes += document.text.size();
    window_.push_back(std::move(document));
  }
  if (options_.shuffle) {
    std::uint64_t key = stream_of("data/shuffle");
    for (const std::int64_t part : {options_.stream, position_.epoch, position_.window}) {
      key = mix64(key + static_cast<std::uint64_t>(part) + 1);
    }
    order_ = permutation(window_.size(), options_.seed, key);
  } else {
    order_.resize(window_.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
  }
  position_.window_text = text_checksum(window_);
  is_loaded_ = true;
}

/// Data may have changed where their names, sizes and ends do not show it.
void DocumentStream::load_saved_window() {
  const std::int64_t saved_text = position_.window_text;
  reader_.seek(position_.window_start);
  load_window();
  const bool is_other = saved_text != 0 && position_.window_text != saved_text;
  if (!is_other && position_.index < std::ssize(window_)) return;
  refuse_changed_data(
      window_.empty()
          ? cat("stream ", options_.stream, " of ", options_.streams, " has no documents left")
          : cat(place_of(window_.front()), " to ", place_of(window_.back()), ": ",
                is_other ? "these documents are not those that were there"
                         : cat("there are ", window_.size(), " documents here, too few for the ",
                               position_.index, " of them that were used")));
}

const Document& DocumentStream::current() {
  if (is_loaded_) return window_[order_[static_cast<std::size_t>(position_.index)]];
  if (position_.window_text != 0 || position_.window > 0 || position_.index > 0) {
    load_saved_window();
  } else {
    reader_.seek({});
    load_window();
    if (window_.empty()) move_on(kNothing);
  }
  return current();
}

void DocumentStream::advance() {
  current();
  if (++position_.index < std::ssize(window_)) return;
  position_ = {position_.epoch, position_.window + 1, 0, reader_.mark(), position_.moved, 0};
  load_window();
  if (!window_.empty()) return;
  position_ = {position_.epoch + 1, 0, 0, {}, position_.moved, 0};
  reader_.seek({});
  load_window();
  if (window_.empty()) move_on(kNothing);
}

void DocumentStream::move_on(const std::string& why) {
  do {
    if (++position_.moved >= options_.streams) {
      throw UserError(cat(why, ": there is no text to train on"));
    }
    position_ = {position_.epoch, 0, 0, {}, position_.moved, 0};
    reader_.seek({});
    load_window();
  } while (window_.empty());
  if (BadData* bad = bad_data()) {
    bad->note(cat("stream ", options_.stream, " of ", options_.streams,
                  " has no document that can be used; it reads those of stream ", share()));
  }
}

void DocumentStream::seek(const DocumentPosition& position) {
  const RecordMark& start = position.window_start;
  const auto refuse = [&](const char* name, std::int64_t value, const auto&... why) {
    throw UserError(
        cat("the saved position in the data is damaged: ", name, " of stream ", options_.stream,
            " of ", options_.streams, " is ", value, ", ", why...,
            "; move the newest checkpoint away, and the run goes on from the one before"));
  };
  position_ = position;
  if (position.moved >= options_.streams) {
    refuse("stream_moved", position.moved, "there are no more streams");
  }
  if (position.index >= most_documents()) {
    refuse("stream_index", position.index, "a window has ", most_documents(), " documents");
  }
  if (position.window == 0 && start != RecordMark{}) {
    refuse("window_start_record", start.record, "the first window starts at 0");
  }
  if (position.window > 0) {
    const std::int64_t last = start.record - 1;  // document of the window before
    if (last % options_.streams != share() || last / options_.streams + 1 < position.window) {
      refuse("window_start_record", start.record, "where no window of it starts");
    }
    if (start.byte == 0 || start.line > start.byte) {
      refuse("window_start_byte", start.byte, "where no window of it starts");
    }
    if (const std::string why = reader_.why_not(start); !why.empty()) {
      refuse("window_start_byte", start.byte, why);
    }
  }
  is_loaded_ = false;
}

}  // namespace koios
