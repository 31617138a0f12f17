#include "data/byte_reader.hpp"

#include <utility>

#include "core/integers.hpp"

namespace koios {
namespace {

constexpr std::size_t kBlockBytes = 256 * 1024;
constexpr std::size_t kLargeBuffer = 16 * 1024 * 1024;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

ByteReader::ByteReader(std::unique_ptr<ByteSource> source, std::string name, std::int64_t byte,
                       std::int64_t line)
    : source_(std::move(source)), name_(std::move(name)), byte_(byte), line_(line) {
  if (byte > 0) return;
  while (buffer_.size() < kByteOrderMark.size() && fetch()) {
  }
  if (ahead().starts_with(kByteOrderMark)) consume(kByteOrderMark.size(), 0);
}

bool ByteReader::fetch() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  if (buffer_.capacity() > kLargeBuffer && buffer_.size() < kBlockBytes) {
    std::string(buffer_).swap(buffer_);  // it held a record that is rare
  }
  const std::size_t kept = buffer_.size();
  buffer_.resize(kept + kBlockBytes);
  const std::size_t count = source_->read(buffer_.data() + kept, kBlockBytes);
  buffer_.resize(kept + count);
  return count > 0;
}

void ByteReader::consume(std::size_t bytes, std::int64_t lines) {
  begin_ += bytes;
  byte_ += narrow<std::int64_t>(bytes);
  line_ += lines;
}

}  // namespace koios
