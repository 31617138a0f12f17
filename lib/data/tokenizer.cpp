#include "data/tokenizer.hpp"

#include <sentencepiece_processor.h>

#include <fstream>
#include <iterator>

#include "core/error.hpp"
#include "core/random.hpp"

namespace koios {
namespace {

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
  }

  std::int64_t vocab_size() const override { return processor_.GetPieceSize(); }
  std::int32_t bos() const override { return processor_.bos_id(); }
  std::int32_t eos() const override { return processor_.eos_id(); }
  std::uint64_t hash() const override { return hash_; }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> ids;
    check("Encode", processor_.Encode({text.data(), text.size()}, &ids));
    return ids;
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
  static void check(const char* call, const sentencepiece::util::Status& status,
                    std::source_location where = std::source_location::current()) {
    if (!status.ok()) throw LibraryError("SentencePiece", call, status.ToString(), where);
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::uint64_t hash_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string model{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw UserError(cat(path, ": the tokenizer model cannot be read"));
  return std::make_unique<SentencePieceTokenizer>(path, model);
}

}  // namespace koios
