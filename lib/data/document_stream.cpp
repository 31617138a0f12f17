#include "data/document_stream.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/error.hpp"
#include "core/random.hpp"

namespace koios {
namespace {

constexpr std::size_t kWindowBytes = 16 * 1024 * 1024;
constexpr std::int64_t kWindowDocuments = 1 << 17;  // which may be empty

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

}  // namespace

DocumentStream::DocumentStream(RecordReader reader, const StreamOptions& options)
    : reader_(std::move(reader)), options_(options) {
  KOIOS_REQUIRE(options.stream >= 0 && options.stream < options.streams && options.window > 0,
                options.stream, " of ", options.streams, " streams, window ", options.window);
}

void DocumentStream::load_window() {
  window_.clear();
  std::size_t bytes = 0;
  const std::int64_t most = std::min(options_.window, kWindowDocuments);
  while (std::ssize(window_) < most && bytes < kWindowBytes) {
    if (reader_.mark().record % options_.streams != options_.stream) {
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
  is_loaded_ = true;
}

const Document& DocumentStream::current() {
  if (!is_loaded_) {
    reader_.seek(position_.window_start);
    load_window();
    if (position_.index >= std::ssize(window_)) {
      throw UserError(position_ == DocumentPosition{}
                          ? cat("no usable document in the data for stream ", options_.stream,
                                " of ", options_.streams)
                          : cat("the data has changed: window ", position_.window, " of stream ",
                                options_.stream, " has ", window_.size(),
                                " documents, too few for the saved position ", position_.index));
    }
  }
  return window_[order_[static_cast<std::size_t>(position_.index)]];
}

void DocumentStream::advance() {
  current();
  if (++position_.index < std::ssize(window_)) return;
  position_ = {position_.epoch, position_.window + 1, 0, reader_.mark()};
  load_window();
  if (!window_.empty()) return;
  position_ = {position_.epoch + 1, 0, 0, {}};
  reader_.seek({});
  load_window();
  if (window_.empty()) throw UserError("the data has vanished: no documents are left");
}

void DocumentStream::seek(const DocumentPosition& position) {
  position_ = position;
  is_loaded_ = false;
}

}  // namespace koios
