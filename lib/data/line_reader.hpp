// Lines of a file with their number and byte position, read in large blocks. Memory is bounded: the
// caller says how much of a line it wants at once, and a longer one comes in parts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

namespace koios {

class LineReader {
 public:
  /// Starts `byte` bytes into the file, after `line` whole lines. A UTF-8 byte-order mark at the
  /// front of the file is passed over.
  explicit LineReader(const std::string& path, std::int64_t byte = 0, std::int64_t line = 0);

  /// Looks at the next line, or at no more than `max_bytes` of it, cut between two characters;
  /// false at the end of the file. It stays the next one until advance().
  bool peek(std::size_t max_bytes);
  void advance();

  /// What peek() saw, without "\n" or "\r\n"; valid until the next call.
  std::string_view text() const { return {buffer_.data() + begin_, size_}; }
  /// Whether text() reaches the end of its line.
  bool is_whole() const { return is_whole_; }

  const std::string& path() const { return path_; }
  /// Bytes and whole lines before the next line.
  std::int64_t byte() const { return byte_; }
  std::int64_t lines_before() const { return line_; }
  /// Number of the next line, from 1.
  std::int64_t number() const { return line_ + 1; }

 private:
  bool read_block();

  std::string path_;
  std::ifstream file_;
  std::string buffer_;
  std::size_t begin_ = 0;     // of the next line in buffer_
  std::size_t size_ = 0;      // of text()
  std::size_t consumed_ = 0;  // text() and its line end
  bool is_whole_ = true;
  std::int64_t byte_;
  std::int64_t line_;
};

}  // namespace koios
