#include "core/utf8.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {
namespace {

bool is_continuation(unsigned char c) { return (c & 0xC0U) == 0x80U; }

/// Bytes of the character at the front of `text` (which starts beyond ASCII); 0 if malformed.
std::size_t character_size(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : static_cast<unsigned char>(0);
  };
  const unsigned char lead = byte(0);
  if (lead >= 0xC2 && lead <= 0xDF) return is_continuation(byte(1)) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned char low = lead == 0xE0 ? 0xA0 : 0x80;   // no overlong forms
    const unsigned char high = lead == 0xED ? 0x9F : 0xBF;  // no surrogates
    return byte(1) >= low && byte(1) <= high && is_continuation(byte(2)) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned char low = lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xF4 ? 0x8F : 0xBF;  // at most U+10FFFF
    const bool whole = is_continuation(byte(2)) && is_continuation(byte(3));
    return byte(1) >= low && byte(1) <= high && whole ? 4 : 0;
  }
  return 0;
}

/// What a line that is not UTF-8 may be, and how to convert such a file; empty where the bytes do
/// not look like it: a conversion of anything else would destroy it.
std::string conversion(std::string_view text, bool is_front) {
  using namespace std::string_view_literals;
  if (is_front && (text.starts_with("\xFF\xFE\0\0"sv) || text.starts_with("\0\0\xFE\xFF"sv))) {
    return "; by its first bytes it is UTF-32, which iconv -f utf-32 -t utf-8 converts";
  }
  if (is_front && (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF"))) {
    return "; by its first bytes it is UTF-16, which iconv -f utf-16 -t utf-8 converts";
  }
  std::size_t high = 0;
  bool is_cp1252 = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool is_control = (c < 0x20 && (c < '\t' || c > '\r')) || c == 0x7F;
    const bool is_undefined = c == 0x81 || c == 0x8D || c == 0x8F || c == 0x90 || c == 0x9D;
    if (is_control || is_undefined) return {};
    if (c < 0x80) continue;
    ++high;
    is_cp1252 = is_cp1252 || c < 0xA0;
    // A character of UTF-8 beside others that are not: a damaged file, or several in one.
    if (character_size(text.substr(i)) > 0) return {};
  }
  if (high * 3 > text.size()) return {};  // of no script that these two are for
  const char* name = is_cp1252 ? "cp1252" : "latin1";
  return cat("; it may be ", is_cp1252 ? "Windows-1252" : "Latin-1", ", which iconv -f ", name,
             " -t utf-8 converts");
}

}  // namespace

std::size_t find_invalid_utf8(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    if (text.size() - i >= 8) {  // eight ASCII bytes at a time
      std::uint64_t word = 0;
      std::memcpy(&word, text.data() + i, 8);
      if ((word & 0x8080808080808080ULL) == 0) {
        i += 8;
        continue;
      }
    }
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const std::size_t size = character_size(text.substr(i));
    if (size == 0) return i;
    i += size;
  }
  return std::string_view::npos;
}

std::size_t utf8_cut(std::string_view text, std::size_t limit) {
  if (limit >= text.size()) return text.size();
  std::size_t cut = limit;
  while (cut > 0 && limit - cut < 3 && is_continuation(static_cast<unsigned char>(text[cut]))) {
    --cut;
  }
  return cut == 0 ? limit : cut;
}

std::string utf8_problem(std::string_view text, std::string_view whole, std::int64_t byte) {
  const auto bad = find_invalid_utf8(text);
  if (bad == std::string_view::npos) return {};
  return fmt::format(": not UTF-8: byte {} of the {} (byte {} of the file) is {:#x}{}", bad + 1,
                     whole, byte + narrow<std::int64_t>(bad) + 1,
                     static_cast<unsigned char>(text[bad]), conversion(text, byte == 0));
}

std::string zero_problem(std::string_view text, std::string_view whole, std::int64_t byte) {
  const auto zero = text.find('\0');
  if (zero == std::string_view::npos) return {};
  return cat(": not text: byte ", zero + 1, " of the ", whole, " (byte ",
             byte + narrow<std::int64_t>(zero) + 1,
             " of the file) is zero; a copy that broke off, UTF-16, or not a text file?");
}

}  // namespace koios
