#include "data/token_stream.hpp"

#include <algorithm>
#include <utility>

#include "core/error.hpp"

namespace koios {

TokenStream::TokenStream(DocumentStream documents, const Tokenizer& tokenizer)
    : documents_(std::move(documents)), tokenizer_(&tokenizer) {}

void TokenStream::tokenize_current() {
  const Document& document = documents_.current();
  tokens_ = {tokenizer_->bos()};
  const auto ids = tokenizer_->encode(document.text);
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  tokens_.push_back(tokenizer_->eos());
  if (offset_ > std::ssize(tokens_)) {
    throw UserError(cat(document.file, ":", document.line, ": the data has changed: ", offset_,
                        " tokens of this document were used before the save, now it has only ",
                        tokens_.size()));
  }
}

void TokenStream::take(std::span<std::int32_t> out) {
  while (!out.empty()) {
    if (tokens_.empty()) tokenize_current();
    const auto rest = std::span(tokens_).subspan(static_cast<std::size_t>(offset_));
    const auto piece = rest.first(std::min(rest.size(), out.size()));
    std::ranges::copy(piece, out.begin());
    offset_ += std::ssize(piece);
    out = out.subspan(piece.size());
    if (out.empty()) return;
    documents_.advance();
    tokens_.clear();
    offset_ = 0;
  }
}

void TokenStream::restore(const StreamState& state) {
  documents_.seek(state.document);
  tokens_.clear();
  offset_ = state.token_offset;
}

}  // namespace koios
