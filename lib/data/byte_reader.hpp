// A buffer over a source of bytes that counts bytes and lines: what the formats find their records
// in. It holds what the format asked to see and a block more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "data/byte_source.hpp"

namespace koios {

class ByteReader {
 public:
  /// `source` has been passed over up to `byte`, which is after `line` whole lines. A UTF-8
  /// byte-order mark at the very front is passed over.
  ByteReader(std::unique_ptr<ByteSource> source, std::string name, std::int64_t byte = 0,
             std::int64_t line = 0);

  /// What lies ahead and is in memory.
  std::string_view ahead() const { return {buffer_.get() + begin_, end_ - begin_}; }
  /// Brings one more block behind ahead(), which moves in memory; false at the end.
  bool fetch();
  /// Passes over the first `bytes` of ahead(), `lines` line ends among them.
  void consume(std::size_t bytes, std::int64_t lines);

  const std::string& name() const { return name_; }
  /// Bytes and whole lines before ahead().
  std::int64_t byte() const { return byte_; }
  std::int64_t lines_before() const { return line_; }

 private:
  std::unique_ptr<ByteSource> source_;
  std::string name_;
  std::unique_ptr<char[]> buffer_;  // no string: its zeros would take longer than a small file
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::int64_t byte_;
  std::int64_t line_;
};

}  // namespace koios
