#include "data/line_reader.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "data/utf8.hpp"

namespace koios {
namespace {

constexpr std::size_t kBlockBytes = 256 * 1024;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

LineReader::LineReader(const std::string& path, std::int64_t byte, std::int64_t line)
    : path_(path), file_(path, std::ios::binary | std::ios::ate), byte_(byte), line_(line) {
  if (!file_) throw UserError(cat(path, ": cannot be opened"));
  if (file_.tellg() < byte) {
    throw UserError(cat(path, ": is shorter than when this position in it (byte ", byte,
                        ") was saved; the data has changed"));
  }
  file_.seekg(byte);
  if (byte == 0) {
    read_block();
    if (std::string_view(buffer_).starts_with(kByteOrderMark)) {
      begin_ = kByteOrderMark.size();
      byte_ = narrow<std::int64_t>(begin_);
    }
  }
}

bool LineReader::read_block() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  const std::size_t kept = buffer_.size();
  buffer_.resize(kept + kBlockBytes);
  file_.read(buffer_.data() + kept, kBlockBytes);
  if (file_.bad()) throw UserError(cat(path_, ": reading failed after byte ", byte_));
  buffer_.resize(kept + static_cast<std::size_t>(file_.gcount()));
  return buffer_.size() > kept;
}

bool LineReader::peek(std::size_t max_bytes) {
  std::size_t searched = 0;
  while (true) {
    const std::string_view rest = std::string_view(buffer_).substr(begin_);
    const std::string_view window = rest.substr(0, max_bytes + 1);  // a line may fill max_bytes
    if (const auto end = window.find('\n', searched); end != std::string_view::npos) {
      size_ = end;
      consumed_ = end + 1;
      is_whole_ = true;
      break;
    }
    if (rest.size() > max_bytes) {
      size_ = consumed_ = utf8_cut(rest, max_bytes);
      is_whole_ = false;
      return true;
    }
    searched = rest.size();
    if (!read_block()) {
      if (rest.empty()) return false;
      size_ = consumed_ = buffer_.size();
      is_whole_ = true;
      break;
    }
  }
  if (size_ > 0 && text().back() == '\r') --size_;
  return true;
}

void LineReader::advance() {
  begin_ += consumed_;
  byte_ += narrow<std::int64_t>(consumed_);
  if (is_whole_) ++line_;
  size_ = consumed_ = 0;
}

}  // namespace koios
