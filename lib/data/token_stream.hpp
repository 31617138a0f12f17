// The tokens of one stream of documents, without end: the ids of each document between its marks,
// taken in pieces of any size that run on across documents and epochs. Nothing is buffered between
// pieces but the tokens of the current document, so the state is a position in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "data/document_stream.hpp"
#include "data/tokenizer.hpp"

namespace koios {

struct StreamState {
  DocumentPosition document;
  std::int64_t token_offset = 0;  // tokens taken of that document
  std::int64_t samples = 0;       // taken of the stream before

  bool operator==(const StreamState&) const = default;
};

/// The ids of a document between its marks; none where there is no memory for them, which is told
/// as bad data is.
std::optional<std::vector<std::int32_t>> encode_or_tell(const Tokenizer& tokenizer,
                                                        DocumentMarks marks,
                                                        const Document& document, BadData* bad);

class TokenStream {
 public:
  /// `tokenizer` must outlive the stream.
  TokenStream(DocumentStream documents, const Tokenizer& tokenizer, DocumentMarks marks);

  /// Fills `tokens` with the next ones, and for each says where in `tokens` its document begins; 0
  /// where that was before.
  void take(std::span<std::int32_t> tokens, std::span<std::int32_t> document_start);

  std::int64_t epoch() const { return documents_.position().epoch; }
  StreamState state() const { return {documents_.position(), offset_, 0}; }
  void restore(const StreamState& state);

 private:
  void tokenize_current();
  void to_next_document();

  DocumentStream documents_;
  const Tokenizer* tokenizer_;
  DocumentMarks marks_;
  std::vector<std::int32_t> tokens_;  // of the current document; empty: not made yet
  std::int64_t offset_ = 0;
};

}  // namespace koios
