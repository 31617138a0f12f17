// Lines of a source with their number and byte position. Memory is bounded: the caller says how
// much of a line it wants at once, and a longer one comes in parts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "data/byte_reader.hpp"

namespace koios {

class LineReader {
 public:
  /// The lines ahead of `bytes`, which must outlive it.
  explicit LineReader(ByteReader& bytes) : bytes_(bytes) {}

  /// Looks at the next line, or at no more than `max_bytes` of it, cut between two characters;
  /// false at the end of the file. It stays the next one until advance().
  bool peek(std::size_t max_bytes);
  void advance();

  /// What peek() saw, without "\n" or "\r\n"; valid until the next call.
  std::string_view text() const { return bytes_.ahead().substr(0, size_); }
  /// Whether text() reaches the end of its line.
  bool is_whole() const { return is_whole_; }

  const std::string& name() const { return bytes_.name(); }
  std::int64_t byte() const { return bytes_.byte(); }
  /// Number of the next line, from 1.
  std::int64_t number() const { return bytes_.lines_before() + 1; }

 private:
  ByteReader& bytes_;
  std::size_t size_ = 0;      // of text()
  std::size_t consumed_ = 0;  // text() and its line end
  bool is_whole_ = true;
};

}  // namespace koios
