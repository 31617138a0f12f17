#include "data/line_reader.hpp"

#include "core/utf8.hpp"

namespace koios {

bool LineReader::peek(std::size_t max_bytes) {
  std::size_t searched = 0;
  while (true) {
    const std::string_view rest = bytes_.ahead();
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
    if (!bytes_.fetch()) {
      if (searched == 0) return false;
      size_ = consumed_ = searched;
      is_whole_ = true;
      break;
    }
  }
  if (size_ > 0 && text().back() == '\r') --size_;
  return true;
}

void LineReader::advance() {
  bytes_.consume(consumed_, is_whole_ ? 1 : 0);
  size_ = consumed_ = 0;
}

}  // namespace koios
