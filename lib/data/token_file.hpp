// Token files: documents that koios-tokenize has turned into ids ahead of time. All integers are
// little-endian, sections begin at multiples of 64 KiB and are padded with zeros:
//   header      TokenFileHeader
//   tokens      of all documents, one behind the other; 2 or 4 bytes each
//   documents   where each begins, in tokens; 8 bytes each
//   checksums   one of 8 bytes for each 64 KiB of the two sections before
// Reading checks every block it touches, so a damaged one is named when it is met. docs/data.md
// has the layout in bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "data/tokenizer.hpp"
#include "runtime/file.hpp"

namespace koios {

struct TokenFileHeader {
  static constexpr std::array<char, 8> kMagic = {'K', 'O', 'I', 'O', 'S', 'T', 'O', 'K'};
  static constexpr std::uint32_t kVersion = 1;
  static constexpr std::int64_t kBlockBytes = 64 * 1024;

  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t token_bytes = 0;  // 2 or 4
  std::uint64_t tokenizer_hash = 0;
  std::int64_t vocab_size = 0;
  std::int32_t bos = -1;  // put before each document; -1: none
  std::int32_t eos = -1;  // put behind each document; -1: none
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::int64_t documents_at = 0;  // bytes from the file's front; the tokens are at kBlockBytes
  std::int64_t checksums_at = 0;
  std::int64_t file_bytes = 0;
  std::uint64_t contents_checksum = 0;  // of the section checksums: another for other contents
  std::uint64_t header_checksum = 0;    // of all that is before it
};
static_assert(sizeof(TokenFileHeader) == 96 && std::is_trivially_copyable_v<TokenFileHeader>);

/// Where sections begin and end, from token_bytes, tokens and documents.
void lay_out(TokenFileHeader& header);
/// 64 bits that any change of a single 8-byte word changes.
std::uint64_t checksum(std::span<const std::byte> bytes);
std::uint64_t header_checksum(const TokenFileHeader& header);

class TokenFile {
 public:
  /// UserError where it is no token file, incomplete, or damaged in header or checksums.
  explicit TokenFile(std::string path);

  const std::string& path() const { return path_; }
  const TokenFileHeader& header() const { return header_; }
  std::int64_t tokens() const { return header_.tokens; }

  /// UserError where the file was made with another tokenizer.
  void require_tokenizer(const Tokenizer& tokenizer) const;

  /// Tokens first, first+1, ...; UserError naming file and block where one is damaged.
  void read(std::int64_t first, std::span<std::int32_t> out);
  /// For each of the tokens first, first+1, ... where its document begins, counted from `first`; 0
  /// where that is before.
  void find_document_starts(std::int64_t first, std::span<std::int32_t> out);

 private:
  void read_bytes(std::int64_t at, std::span<std::byte> out) const;
  struct Block {
    std::int64_t number = -1;
    std::vector<std::byte> bytes;
  };
  /// A block with the right checksum; of the last one read there is no second reading.
  const std::byte* read_block(std::int64_t number, Block& last) const;
  std::int64_t document_begin(std::int64_t document);
  void check_header();

  std::string path_;
  FileDescriptor descriptor_;
  TokenFileHeader header_;
  std::vector<std::uint64_t> checksums_;
  Block tokens_;
  Block documents_;
};

}  // namespace koios
