#include "core/utf8.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace koios {
namespace {

std::string encode(std::uint32_t c) {
  std::string s;
  const auto put = [&](std::uint32_t byte) { s += static_cast<char>(byte); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6)), put(0x80 | (c & 63));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12)), put(0x80 | ((c >> 6) & 63)), put(0x80 | (c & 63));
  } else {
    put(0xF0 | (c >> 18)), put(0x80 | ((c >> 12) & 63)), put(0x80 | ((c >> 6) & 63));
    put(0x80 | (c & 63));
  }
  return s;
}

TEST(Utf8, every_code_point_but_the_surrogates_is_well_formed) {
  for (std::uint32_t c = 0; c < 0x120000; c += c < 0x3000 ? 1 : 61) {
    const bool valid = c < 0x110000 && (c < 0xD800 || c > 0xDFFF);
    EXPECT_EQ(find_invalid_utf8("ab" + encode(c) + "cdefghij"), valid ? std::string::npos : 2) << c;
  }
}

TEST(Utf8, malformed_bytes_are_found_where_they_stand) {
  for (const std::string bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80",
                                "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF",
                                "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xE2\x28\xA1"}) {
    for (const std::size_t before : {0, 1, 7, 8, 9, 30}) {
      EXPECT_EQ(find_invalid_utf8(std::string(before, 'a') + bad), before);
      EXPECT_EQ(find_invalid_utf8(std::string(before, 'a') + bad + "zzzzzzzzzz"), before);
    }
  }
  EXPECT_EQ(find_invalid_utf8(""), std::string::npos);
}

TEST(Utf8, cuts_fall_between_characters) {
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";  // 1 + 2 + 3 + 4 + 1 bytes
  const std::size_t expected[] = {1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
  for (std::size_t limit = 1; limit <= 12; ++limit) {
    EXPECT_EQ(utf8_cut(text, limit), expected[limit - 1]) << limit;
  }
}

}  // namespace
}  // namespace koios
