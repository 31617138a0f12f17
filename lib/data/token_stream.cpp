#include "data/token_stream.hpp"

#include <algorithm>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {

TokenStream::TokenStream(DocumentStream documents, const Tokenizer& tokenizer, DocumentMarks marks)
    : documents_(std::move(documents)), tokenizer_(&tokenizer), marks_(marks) {}

void TokenStream::tokenize_current() {
  const Document& document = documents_.current();
  tokens_ = encode_document(*tokenizer_, marks_, document.text);
  if (offset_ > std::ssize(tokens_)) {
    throw UserError(cat(document.file, ":", document.line, ": the data has changed: ", offset_,
                        " tokens of this document were used before the save, now it has only ",
                        tokens_.size()));
  }
}

void TokenStream::take(std::span<std::int32_t> tokens, std::span<std::int32_t> document_start) {
  KOIOS_REQUIRE(tokens.size() == document_start.size(), tokens.size(), ", ", document_start.size());
  std::size_t taken = 0;
  while (taken < tokens.size()) {
    if (tokens_.empty()) tokenize_current();
    const auto rest = std::span(tokens_).subspan(static_cast<std::size_t>(offset_));
    const auto piece = rest.first(std::min(rest.size(), tokens.size() - taken));
    std::ranges::copy(piece, tokens.subspan(taken).begin());
    std::ranges::fill(document_start.subspan(taken, piece.size()), narrow<std::int32_t>(taken));
    offset_ += std::ssize(piece);
    taken += piece.size();
    if (taken == tokens.size()) return;
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
