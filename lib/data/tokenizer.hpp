// Text to token ids and back. The interface keeps the library's header out and lets tests and
// other kinds of tokenizers stand in. encode() is thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/mpi_env.hpp"

namespace koios {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::int64_t vocab_size() const = 0;
  /// Ids of the marks of a document's beginning and end; below 0 where there is none.
  virtual std::int32_t bos() const = 0;
  virtual std::int32_t eos() const = 0;
  /// 64 bits of the model file (FNV-1a), by which checkpoints and token files know it again.
  virtual std::uint64_t hash() const = 0;

  /// The ids of `text` alone, without bos and eos.
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
};

/// Which marks are put around a document; at least one.
struct DocumentMarks {
  bool bos = true;  // before it
  bool eos = true;  // behind it
};

/// The ids of a document between its marks.
std::vector<std::int32_t> encode_document(const Tokenizer& tokenizer, DocumentMarks marks,
                                          std::string_view text);

/// A SentencePiece model such as Llama 2's tokenizer.model; UserError where the file is missing,
/// damaged, or has not the marks that are needed.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path, DocumentMarks needed = {});
/// The same on all ranks, for which rank 0 reads the file. Collective.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path, DocumentMarks needed,
                                              const MpiEnv& mpi);

}  // namespace koios
