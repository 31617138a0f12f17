#include "data/token_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.hpp"
#include "core/file_kind.hpp"
#include "core/integers.hpp"

namespace koios {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::int64_t kBlock = TokenFileHeader::kBlockBytes;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 48;

bool is_token_size(std::uint32_t bytes) { return bytes == 2 || bytes == 4; }

}  // namespace

void lay_out(TokenFileHeader& header) {
  KOIOS_REQUIRE(is_token_size(header.token_bytes) && header.tokens >= 0 &&
                    header.tokens <= kMostTokens && header.documents >= 0 &&
                    header.documents <= kMostTokens,
                header.token_bytes, ", ", header.tokens, ", ", header.documents);
  header.documents_at = kBlock + round_up(header.tokens * header.token_bytes, kBlock);
  header.checksums_at = header.documents_at + round_up(header.documents * 8, kBlock);
  header.file_bytes = header.checksums_at + (header.checksums_at / kBlock - 1) * 8;
}

std::uint64_t checksum(std::span<const std::byte> bytes) {
  // Four chains, since one would wait for its multiplication. Each step is a bijection of the
  // chain's value and of the word, so that no change of one word can be lost.
  std::array<std::uint64_t, 4> chain = {1, 2, 3, 4};
  const auto step = [](std::uint64_t value, std::uint64_t word) {
    value = (value ^ word) * 0x9E3779B97F4A7C15ULL;
    return value ^ (value >> 32);
  };
  const auto word_at = [&](std::size_t at) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min<std::size_t>(8, bytes.size() - at));
    return word;
  };
  std::size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32) {
    for (std::size_t i = 0; i < 4; ++i) chain[i] = step(chain[i], word_at(at + 8 * i));
  }
  for (; at < bytes.size(); at += 8) chain[0] = step(chain[0], word_at(at));
  std::uint64_t sum = bytes.size();
  for (const std::uint64_t value : chain) sum = step(sum, value);
  return sum;
}

std::uint64_t header_checksum(const TokenFileHeader& header) {
  return checksum(std::as_bytes(std::span(&header, 1)).first(sizeof header - 8));
}

TokenFile::TokenFile(std::string path)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (!descriptor_) throw UserError(cat(path_, ": cannot be opened: ", std::strerror(errno)));
  check_header();
  const std::int64_t blocks = header_.checksums_at / kBlock - 1;
  checksums_.resize(narrow<std::size_t>(blocks));
  const auto bytes = std::as_writable_bytes(std::span(checksums_));
  read_bytes(header_.checksums_at, bytes);
  if (checksum(bytes) != header_.contents_checksum) {
    throw UserError(cat(path_, ": damaged: its section of checksums does not fit the header; ",
                        "make the file again with koios-tokenize"));
  }
}

void TokenFile::check_header() {
  struct stat status {};
  if (::fstat(descriptor_.get(), &status) != 0 || status.st_size < std::ssize(header_.magic)) {
    throw UserError(
        cat(path_, ": not a token file of koios-tokenize (", status.st_size, " bytes)"));
  }
  const std::int64_t size = std::min<std::int64_t>(status.st_size, sizeof header_);
  read_bytes(0,
             std::as_writable_bytes(std::span(&header_, 1)).first(static_cast<std::size_t>(size)));
  if (header_.magic != TokenFileHeader::kMagic) {
    const std::string kind = file_kind(file_head(path_));
    throw UserError(
        cat(path_, ": not a token file of koios-tokenize", kind.empty() ? "" : ", but ", kind));
  }
  if (header_.version != TokenFileHeader::kVersion) {
    throw UserError(cat(path_, ": a token file of version ", header_.version,
                        "; this Koios reads version ", TokenFileHeader::kVersion));
  }
  TokenFileHeader expected = header_;
  const bool is_sane = header_checksum(header_) == header_.header_checksum &&
                       is_token_size(header_.token_bytes) && header_.tokens >= 0 &&
                       header_.tokens <= kMostTokens && header_.documents >= 0 &&
                       header_.documents <= kMostTokens && header_.vocab_size > 0;
  if (is_sane) lay_out(expected);
  if (!is_sane || header_checksum(expected) != header_checksum(header_)) {
    throw UserError(cat(path_, ": the header of this token file is damaged; make the file again ",
                        "with koios-tokenize"));
  }
  if (status.st_size != header_.file_bytes) {
    throw UserError(cat(path_, ": has ", status.st_size, " bytes, by its header it had ",
                        header_.file_bytes, ": it is incomplete or was changed"));
  }
}

void TokenFile::require_tokenizer(const Tokenizer& tokenizer) const {
  if (header_.tokenizer_hash == tokenizer.hash() && header_.vocab_size == tokenizer.vocab_size()) {
    return;
  }
  throw UserError(fmt::format(
      "{}: made with another tokenizer ({} pieces, hash {:x}) than model/tokenizer_path "
      "({} pieces, hash {:x})",
      path_, header_.vocab_size, header_.tokenizer_hash, tokenizer.vocab_size(), tokenizer.hash()));
}

void TokenFile::read_bytes(std::int64_t at, std::span<std::byte> out) const {
  const std::int64_t count = files::read_at(descriptor_.get(), at, out);
  if (count == std::ssize(out)) return;
  throw UserError(cat(path_, ": reading failed at byte ", at + count, ": ",
                      errno == 0 ? "the file ends there" : std::strerror(errno)));
}

const std::byte* TokenFile::read_block(std::int64_t number, Block& last) const {
  if (number == last.number) return last.bytes.data();
  last.number = -1;
  last.bytes.resize(static_cast<std::size_t>(kBlock));
  read_bytes((number + 1) * kBlock, last.bytes);
  if (checksum(last.bytes) != checksums_[static_cast<std::size_t>(number)]) {
    throw UserError(cat(path_, ": block ", number, " (64 KiB from byte ", (number + 1) * kBlock,
                        " on) is damaged: its checksum does not fit; make the file again with ",
                        "koios-tokenize"));
  }
  last.number = number;
  return last.bytes.data();
}

void TokenFile::read(std::int64_t first, std::span<std::int32_t> out) {
  KOIOS_REQUIRE(first >= 0 && first + std::ssize(out) <= tokens(), first, " + ", out.size(), " of ",
                tokens());
  const std::int64_t per_block = kBlock / header_.token_bytes;
  while (!out.empty()) {
    const std::int64_t number = first / per_block;
    const std::int64_t from = first % per_block;
    const std::int64_t count = std::min(per_block - from, std::ssize(out));
    const std::byte* bytes = read_block(number, tokens_) + from * header_.token_bytes;
    for (std::int64_t i = 0; i < count; ++i) {
      std::uint32_t id = 0;
      std::memcpy(&id, bytes + i * header_.token_bytes, header_.token_bytes);
      if (id >= header_.vocab_size) {
        throw UserError(cat(path_, ": block ", number, ": token ", first + i, " is ", id,
                            ", beyond the vocabulary of ", header_.vocab_size));
      }
      out[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(id);
    }
    first += count;
    out = out.subspan(static_cast<std::size_t>(count));
  }
}

std::int64_t TokenFile::document_begin(std::int64_t document) {
  const std::int64_t at = header_.documents_at - kBlock + document * 8;
  std::int64_t begin = 0;
  std::memcpy(&begin, read_block(at / kBlock, documents_) + at % kBlock, sizeof begin);
  if (begin < 0 || begin > header_.tokens) {
    throw UserError(cat(path_, ": block ", at / kBlock, ": document ", document, " begins at ",
                        begin, " of ", header_.tokens, " tokens"));
  }
  return begin;
}

void TokenFile::find_document_starts(std::int64_t first, std::span<std::int32_t> out) {
  std::int64_t low = 0;  // the last document that begins at `first` or before
  for (std::int64_t high = header_.documents; high - low > 1;) {
    const std::int64_t middle = low + (high - low) / 2;
    (document_begin(middle) <= first ? low : high) = middle;
  }
  std::int64_t start = 0;
  for (std::int64_t i = 0; i < std::ssize(out); ++i) {
    if (low + 1 < header_.documents && document_begin(low + 1) == first + i) {
      ++low;
      start = i;
    }
    out[static_cast<std::size_t>(i)] = narrow<std::int32_t>(start);
  }
}

}  // namespace koios
