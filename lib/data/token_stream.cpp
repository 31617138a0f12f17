#include "data/token_stream.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {

std::optional<std::vector<std::int32_t>> encode_or_tell(const Tokenizer& tokenizer,
                                                        DocumentMarks marks,
                                                        const Document& document, BadData* bad) {
  try {
    return encode_document(tokenizer, marks, document.text);
  } catch (const std::bad_alloc&) {
    tell_bad(bad,
             no_memory_at(cat(document.file, ":", document.line),
                          cat("the tokens of this document of ", document.text.size(), " bytes")));
    return std::nullopt;
  }
}

TokenStream::TokenStream(DocumentStream documents, const Tokenizer& tokenizer, DocumentMarks marks)
    : documents_(std::move(documents)), tokenizer_(&tokenizer), marks_(marks) {}

/// What cannot be tokenized is passed over, until all of the data has been tried.
void TokenStream::tokenize_current() {
  std::int64_t epoch = documents_.position().epoch;
  while (true) {
    const Document& document = documents_.current();
    auto tokens = encode_or_tell(*tokenizer_, marks_, document, documents_.bad_data());
    if (tokens) {
      tokens_ = std::move(*tokens);
      break;
    }
    to_next_document();
    if (documents_.position().epoch > epoch + 1) {
      documents_.move_on(no_memory_at(documents_.current().file, "the tokens of any document"));
      epoch = documents_.position().epoch;
    }
  }
  const Document& document = documents_.current();
  if (offset_ > std::ssize(tokens_)) {
    refuse_changed_data(cat(document.file, ":", document.line, ": ", offset_,
                            " tokens of this document were used, now it has only ",
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
    to_next_document();
  }
}

void TokenStream::to_next_document() {
  documents_.advance();
  tokens_.clear();
  offset_ = 0;
}

void TokenStream::restore(const StreamState& state) {
  documents_.seek(state.document);
  tokens_.clear();
  offset_ = state.token_offset;
}

}  // namespace koios
