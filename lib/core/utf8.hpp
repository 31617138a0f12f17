// Well-formedness of UTF-8 (Unicode 15, table 3-7): overlong forms, surrogates and values beyond
// U+10FFFF are refused, since SentencePiece would turn them into U+FFFD without a word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace koios {

/// Offset of the first character that is not well formed; npos where all are.
std::size_t find_invalid_utf8(std::string_view text);

/// The largest cut <= `limit` that does not fall inside a character of well-formed `text`.
std::size_t utf8_cut(std::string_view text, std::size_t limit);

/// Empty where `text` is well formed, otherwise ": not UTF-8: ..." with the place in the `whole`
/// that it is, which begins after `byte` bytes of its file.
std::string utf8_problem(std::string_view text, std::string_view whole, std::int64_t byte);

/// Likewise, ": not text: ..." where there is a zero byte: in no text, but in files that were not
/// copied wholly, in UTF-16 and in what is not text at all.
std::string zero_problem(std::string_view text, std::string_view whole, std::int64_t byte);

}  // namespace koios
