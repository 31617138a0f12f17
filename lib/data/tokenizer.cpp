#include "data/tokenizer.hpp"

#include <sentencepiece_processor.h>

#include <fstream>
#include <iterator>

#include "core/error.hpp"
#include "core/random.hpp"
#include "core/utf8.hpp"
#include "data/bpe_encoder.hpp"
#include "data/sentencepiece_model.hpp"

namespace koios {
namespace {

/// Text of every kind that a vocabulary may treat in its own way.
constexpr std::string_view kProbe =
    "The quick brown fox, 3.14159 -- \"quoted\" (bracketed)...\n\n\n\tint x = a[i++]; // 0x1F\r\n"
    "    four    spaces \xE2\x96\x81\xE2\x96\x81 marks  na\xC3\xAFve stra\xC3\x9F"
    "e \xE2\x82\xAC"
    "5 "
    "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 "
    "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C "
    "\xF0\x9F\x98\x80 e\xCC\x81 \xEF\xAC\x81 <s> </s> <unk> <0x41> [INST] aaaaaaaaaaaaaaaaaaaaaa ";

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(const std::string& path, const std::string& model)
      : hash_(stream_of(model)) {
    if (const auto status = processor_.LoadFromSerializedProto(model); !status.ok()) {
      throw UserError(cat(path, ": not a SentencePiece model, or damaged (", model.size(),
                          " bytes): ", status.message()));
    }
    if (bos() < 0 || eos() < 0) {
      throw UserError(cat(path, ": has no ", bos() < 0 ? "bos" : "eos",
                          " piece, by which documents are parted"));
    }
    if (const auto contents = parse_sentencepiece_model(model)) fast_ = BpeEncoder::make(*contents);
    if (fast_ && fast_->encode(kProbe) != encode_by_library(kProbe)) fast_.reset();
  }

  std::int64_t vocab_size() const override { return processor_.GetPieceSize(); }
  std::int32_t bos() const override { return processor_.bos_id(); }
  std::int32_t eos() const override { return processor_.eos_id(); }
  std::uint64_t hash() const override { return hash_; }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    const bool is_plain = fast_ && find_invalid_utf8(text) == std::string_view::npos;
    return is_plain ? fast_->encode(text) : encode_by_library(text);
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    for (const std::int32_t id : ids) {
      KOIOS_REQUIRE(id >= 0 && id < vocab_size(), "token ", id, " of ", vocab_size());
    }
    std::string text;
    check("Decode", processor_.Decode(std::vector<int>(ids.begin(), ids.end()), &text));
    return text;
  }

 private:
  std::vector<std::int32_t> encode_by_library(std::string_view text) const {
    std::vector<std::int32_t> ids;
    check("Encode", processor_.Encode({text.data(), text.size()}, &ids));
    return ids;
  }

  static void check(const char* call, const sentencepiece::util::Status& status,
                    std::source_location where = std::source_location::current()) {
    if (!status.ok()) throw LibraryError("SentencePiece", call, status.ToString(), where);
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::uint64_t hash_;
  std::unique_ptr<BpeEncoder> fast_;  // null: the model is not one for it
};

}  // namespace

std::vector<std::int32_t> encode_document(const Tokenizer& tokenizer, DocumentMarks marks,
                                          std::string_view text) {
  std::vector<std::int32_t> ids = tokenizer.encode(text);
  if (marks.bos) ids.insert(ids.begin(), tokenizer.bos());
  if (marks.eos) ids.push_back(tokenizer.eos());
  return ids;
}

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string model{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw UserError(cat(path, ": the tokenizer model cannot be read"));
  return std::make_unique<SentencePieceTokenizer>(path, model);
}

}  // namespace koios
