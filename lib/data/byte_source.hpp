// Bytes one after the other, wherever they come from: a file, what a decompressor makes of another
// source, a member of an archive. Memory is bounded by a block or a decompressor's window.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/error.hpp"

namespace koios {

/// A file that cannot be read on: cut short, damaged, or not what it seems. The text names it.
class BadFile : public UserError {
 public:
  using UserError::UserError;
};

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  /// Up to `size` bytes, and at least one unless the end is reached.
  virtual std::size_t read(char* into, std::size_t size) = 0;
  /// Passes over `bytes`; returns how many there were.
  virtual std::int64_t skip(std::int64_t bytes);

 protected:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
};

/// A file as it lies on the disk. The bytes that were read or passed over are added to `passed`,
/// which must outlive the source, unless it is null.
std::unique_ptr<ByteSource> open_file(const std::string& path, std::int64_t* passed = nullptr);

/// A source whose first bytes can be looked at before they are read.
class PeekSource final : public ByteSource {
 public:
  explicit PeekSource(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

  /// The next `size` bytes, or all there are.
  std::string_view peek(std::size_t size);

  std::size_t read(char* into, std::size_t size) override;
  std::int64_t skip(std::int64_t bytes) override;

 private:
  std::unique_ptr<ByteSource> source_;
  std::string ahead_;  // read from source_, not yet handed out
};

}  // namespace koios
