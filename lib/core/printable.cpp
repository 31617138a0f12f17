#include "core/printable.hpp"

#include <fmt/format.h>

#include "core/utf8.hpp"

namespace koios {
namespace {

void append_hex(std::string& result, char c) {
  result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
}

/// Bytes of the control character in front of well-formed `text`; 0 where there is none.
std::size_t control_bytes(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first == '\n' || first == '\t') return 0;
  if (first < 0x20 || first == 0x7F) return 1;
  // U+0080 to U+009F, among them the one-character forms of ESC [ and ESC ].
  const bool is_c1 = first == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0;
  if (is_c1) return 2;
  // U+2028 to U+202E and U+2066 to U+2069: ends of lines, and what turns the order of writing.
  if (!text.starts_with("\xE2\x80") && !text.starts_with("\xE2\x81")) return 0;
  const auto last = static_cast<unsigned char>(text[2]);
  const bool turns =
      text[1] == '\x80' ? last >= 0xA8 && last <= 0xAE : last >= 0xA6 && last <= 0xA9;
  return turns ? 3 : 0;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::string_view sound = text.substr(0, find_invalid_utf8(text));
    for (std::size_t i = 0; i < sound.size();) {
      const std::size_t control = control_bytes(sound.substr(i));
      for (std::size_t k = 0; k < control; ++k) append_hex(result, sound[i + k]);
      if (control == 0) result += sound[i];
      i += control == 0 ? 1 : control;
    }
    text.remove_prefix(sound.size());
    if (text.empty()) break;
    append_hex(result, text.front());
    text.remove_prefix(1);
  }
  return result;
}

}  // namespace koios
