#include "data/tokenizer.hpp"

#include <sentencepiece_processor.h>

#include <filesystem>
#include <fstream>
#include <system_error>

#include "config/named_data.hpp"
#include "core/error.hpp"
#include "core/file_kind.hpp"
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
  SentencePieceTokenizer(const std::string& path, const std::string& model, DocumentMarks needed)
      : hash_(stream_of(model)) {
    const auto contents = parse_sentencepiece_model(model);
    if (!contents || contents->pieces.empty()) {
      const std::string kind = file_kind(std::string_view(model).substr(0, kFileHeadBytes));
      throw UserError(cat(path, ": not a SentencePiece model, but ",
                          kind.empty() ? "something else, or damaged" : kind, " (", model.size(),
                          " bytes)"));
    }
    if (!contents->character_maps_are_sound) {
      throw UserError(cat(path, ": a SentencePiece model whose map of characters is damaged"));
    }
    adds_space_ = contents->add_dummy_prefix;
    if (const auto status = processor_.LoadFromSerializedProto(model); !status.ok()) {
      throw UserError(cat(path,
                          ": a SentencePiece model that is damaged, or that this library does ",
                          "not read (", model.size(), " bytes): ", status.message()));
    }
    const bool lacks_bos = needed.bos && bos() < 0;
    if (bos() < 0 && eos() < 0) {
      throw UserError(cat(path, ": has neither a bos nor an eos piece, and without one nothing ",
                          "parts the documents"));
    }
    if (lacks_bos || (needed.eos && eos() < 0)) {
      const char* mark = lacks_bos ? "bos" : "eos";
      throw UserError(cat(path, ": has no ", mark, " piece, which data/add_", mark,
                          " = true puts at every document; set that to false"));
    }
    fast_ = BpeEncoder::make(*contents);
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
  /// The library takes a hundred bytes and more for each byte of a text; what is longer than a
  /// megabyte it gets in parts that are cut at spaces.
  std::vector<std::int32_t> encode_by_library(std::string_view text) const {
    constexpr std::size_t kMostBytes = 1024 * 1024;
    std::vector<std::int32_t> ids;
    while (text.size() > kMostBytes) {
      const auto space = text.rfind(' ', kMostBytes);
      const bool has_space = space != std::string_view::npos && space > 0;
      const std::size_t cut = has_space ? space : utf8_cut(text, kMostBytes);
      append_by_library(text.substr(0, cut), ids);
      text.remove_prefix(cut);
      if (has_space && adds_space_) text.remove_prefix(1);  // the model puts one in front
    }
    append_by_library(text, ids);
    return ids;
  }

  void append_by_library(std::string_view text, std::vector<std::int32_t>& ids) const {
    std::vector<std::int32_t> more;
    check("Encode", processor_.Encode({text.data(), text.size()}, &more));
    ids.insert(ids.end(), more.begin(), more.end());
  }

  static void check(const char* call, const sentencepiece::util::Status& status,
                    std::source_location where = std::source_location::current()) {
    if (!status.ok()) throw LibraryError("SentencePiece", call, status.ToString(), where);
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::uint64_t hash_;
  bool adds_space_ = false;
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

namespace {

std::string read_model(const std::string& path) {
  if (const std::string problem = file_problem(path); !problem.empty()) {
    throw UserError(cat(path, ": the tokenizer model cannot be read: ", problem));
  }
  constexpr std::uintmax_t kMostBytes = 256 << 20;  // Llama 2's has half a megabyte
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) throw UserError(cat(path, ": the tokenizer model cannot be read: ", error.message()));
  if (size > kMostBytes) {
    const std::string kind = file_kind(file_head(path));
    throw UserError(cat(path, ": has ", size,
                        " bytes, too many for a SentencePiece model (at most ", kMostBytes >> 20,
                        " MiB)", kind.empty() ? "" : "; it is ", kind));
  }
  std::ifstream file(path, std::ios::binary);
  std::string model(size, '\0');
  file.read(model.data(), static_cast<std::streamsize>(size));
  if (!file) throw UserError(cat(path, ": the tokenizer model cannot be read"));
  return model;
}

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path, DocumentMarks needed) {
  return std::make_unique<SentencePieceTokenizer>(path, read_model(path), needed);
}

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path, DocumentMarks needed,
                                              const MpiEnv& mpi) {
  const std::string model = mpi.broadcast(mpi.rank() == 0 ? read_model(path) : "");
  return std::make_unique<SentencePieceTokenizer>(path, model, needed);
}

}  // namespace koios
