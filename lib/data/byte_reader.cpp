#include "data/byte_reader.hpp"

#include <algorithm>
#include <cstring>
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
  while (ahead().size() < kByteOrderMark.size() && fetch()) {
  }
  if (ahead().starts_with(kByteOrderMark)) consume(kByteOrderMark.size(), 0);
}

bool ByteReader::fetch() {
  const std::size_t kept = end_ - begin_;
  const std::size_t needed = kept + kBlockBytes;
  const bool held_a_rare_record = capacity_ > kLargeBuffer && kept < kBlockBytes;
  if (needed > capacity_ || held_a_rare_record) {
    const std::size_t capacity = held_a_rare_record ? needed : std::max(needed, 2 * capacity_);
    auto larger = std::make_unique_for_overwrite<char[]>(capacity);
    if (kept > 0) std::memcpy(larger.get(), buffer_.get() + begin_, kept);
    buffer_ = std::move(larger);
    capacity_ = capacity;
  } else if (kept > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, kept);
  }
  begin_ = 0;
  end_ = kept;
  const std::size_t count = source_->read(buffer_.get() + kept, kBlockBytes);
  end_ += count;
  return count > 0;
}

void ByteReader::consume(std::size_t bytes, std::int64_t lines) {
  begin_ += bytes;
  byte_ += narrow<std::int64_t>(bytes);
  line_ += lines;
}

}  // namespace koios
