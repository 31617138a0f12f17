// A token file in the making. Parts, one for each unit of work, are written in any order by any
// rank, each complete or absent; then they are copied side by side into one file, which gets its
// name once it is whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/token_file.hpp"
#include "runtime/file.hpp"

namespace koios {

struct TokenPart {
  std::uint64_t job = 0;  // what it is a part of
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
};

/// The part at `path`; none where it is absent or another job's.
std::optional<TokenPart> find_part(const std::string& path, std::uint64_t job);

class TokenPartWriter {
 public:
  TokenPartWriter(std::string path, std::uint64_t job, std::uint32_t token_bytes);

  void add(std::span<const std::int32_t> document);
  /// Gives the part its name.
  TokenPart finish();

 private:
  void write(std::span<const std::byte> bytes);
  void write_gathered();

  std::string path_;
  std::string unfinished_;
  FileDescriptor file_;
  std::int64_t position_ = 0;  // of what is in the file
  std::uint32_t token_bytes_;
  TokenPart part_;
  std::vector<std::int64_t> begins_;
  std::vector<std::byte> packed_;
  std::vector<std::byte> gathered_;  // to be written at position_
};

/// Makes one token file of parts. Every rank has one; what the comments call the root is one of
/// them, and the others wait for it between the steps.
class TokenFileAssembly {
 public:
  /// The header's token_bytes, tokenizer_hash, vocab_size, bos and eos are given.
  TokenFileAssembly(std::string path, TokenFileHeader header, std::vector<std::string> part_paths,
                    const std::vector<TokenPart>& parts);

  const TokenFileHeader& header() const { return header_; }
  /// First, by the root: the file with its full size, so that a full disk is refused now.
  void create() const;
  /// Then, by any rank: each part once.
  void copy_part(std::size_t part) const;
  /// Then, by any rank: each of worker 0 .. workers-1 once.
  void write_checksums(std::int64_t worker, std::int64_t workers) const;
  /// Last, by the root: header and name.
  void finish();

 private:
  std::string path_;
  std::string unfinished_;
  TokenFileHeader header_;
  std::vector<std::string> part_paths_;
  std::vector<TokenPart> parts_;
  std::vector<std::int64_t> first_token_;     // of each part in the file
  std::vector<std::int64_t> first_document_;  // likewise
};

}  // namespace koios
