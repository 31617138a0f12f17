#include "data/json_scan.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "core/error.hpp"

namespace koios {
namespace {

constexpr int kMaxDepth = 512;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& text, std::uint32_t c) {
  const auto add = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
  if (c < 0x80) {
    add(c);
  } else if (c < 0x800) {
    add(0xC0 | (c >> 6));
    add(0x80 | (c & 63));
  } else if (c < 0x10000) {
    add(0xE0 | (c >> 12));
    add(0x80 | ((c >> 6) & 63));
    add(0x80 | (c & 63));
  } else {
    add(0xF0 | (c >> 18));
    add(0x80 | ((c >> 12) & 63));
    add(0x80 | ((c >> 6) & 63));
    add(0x80 | (c & 63));
  }
}

std::string with_article(std::string_view type) {
  if (type == "null") return "null";
  return cat(type == "object" || type == "array" ? "an " : "a ", type);
}

/// Where and why a text is not JSON.
struct Problem {
  std::size_t at = 0;
  const char* what = nullptr;
};

struct Field {
  const char* type = nullptr;  // null: not found
  std::string text;
};

class Scanner {
 public:
  Scanner(std::string_view text, std::span<const std::string_view> names)
      : text_(text), names_(names), fields_(names.size()) {}

  /// The type of the whole; throws Problem.
  const char* scan() {
    const char* type = value(1, nullptr);
    pass_space();
    if (at_ < text_.size()) fail("there is more behind the value");
    return type;
  }

  std::vector<Field>& fields() { return fields_; }

 private:
  [[noreturn]] void fail(const char* what) const { throw Problem{at_, what}; }
  /// 0 at the end: a zero byte is no JSON either.
  char ahead() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void pass_space() {
    while (ahead() == ' ' || ahead() == '\t' || ahead() == '\n' || ahead() == '\r') ++at_;
  }

  /// The value's type. `text` takes a string; null: it is passed over.
  const char* value(int depth, std::string* text) {
    pass_space();
    switch (ahead()) {
      case '{':
        object(depth);
        return "object";
      case '[':
        array(depth);
        return "array";
      case '"':
        string(text);
        return "string";
      case 't':
        literal("true");
        return "boolean";
      case 'f':
        literal("false");
        return "boolean";
      case 'n':
        literal("null");
        return "null";
      default:
        if (ahead() != '-' && !is_digit(ahead())) {
          fail(at_ == text_.size() ? "it ends where a value should begin" : "no value begins here");
        }
        number();
        return "number";
    }
  }

  void object(int depth) {
    if (depth > kMaxDepth) fail("values nested more than 512 deep");
    ++at_;
    pass_space();
    if (ahead() == '}') {
      ++at_;
      return;
    }
    while (true) {
      pass_space();
      if (ahead() != '"') fail("no name of a field begins here");
      Field* field = nullptr;
      if (depth == 1) {
        std::string name;
        string(&name);
        const auto wanted = std::ranges::find(names_, name);
        if (wanted != names_.end())
          field = &fields_[static_cast<std::size_t>(wanted - names_.begin())];
      } else {
        string(nullptr);
      }
      pass_space();
      if (ahead() != ':') fail("no : after the name of a field");
      ++at_;
      if (field != nullptr) field->text.clear();
      const char* type = value(depth + 1, field == nullptr ? nullptr : &field->text);
      if (field != nullptr) field->type = type;
      if (ends('}', "neither , nor } after a field")) return;
    }
  }

  void array(int depth) {
    if (depth > kMaxDepth) fail("values nested more than 512 deep");
    ++at_;
    pass_space();
    if (ahead() == ']') {
      ++at_;
      return;
    }
    do {
      value(depth + 1, nullptr);
    } while (!ends(']', "neither , nor ] after a value"));
  }

  /// Passes over a comma or the end; whether it was that.
  bool ends(char end, const char* otherwise) {
    pass_space();
    if (ahead() != ',' && ahead() != end) fail(otherwise);
    return text_[at_++] == end;
  }

  void literal(std::string_view word) {
    for (const char c : word) {
      if (ahead() != c) fail("no value begins so");
      ++at_;
    }
  }

  void string(std::string* text) {
    ++at_;
    while (true) {
      const std::size_t begin = at_;
      while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
             static_cast<unsigned char>(text_[at_]) >= 0x20) {
        ++at_;
      }
      if (text != nullptr) text->append(text_.substr(begin, at_ - begin));
      if (at_ == text_.size()) fail("it ends inside of a string");
      if (text_[at_] == '"') break;
      if (text_[at_] != '\\') fail("a control character in a string");
      ++at_;
      escape(text);
    }
    ++at_;
  }

  void escape(std::string* text) {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
    if (ahead() == 'u') {
      ++at_;
      const std::uint32_t c = character();
      if (text != nullptr) append_utf8(*text, c);
      return;
    }
    const auto which = kNames.find(ahead());
    if (which == std::string_view::npos) fail("an escape that JSON does not have");
    ++at_;
    if (text != nullptr) *text += kMeant[which];
  }

  /// Of \uXXXX, or of two of them.
  std::uint32_t character() {
    const std::uint32_t first = hex();
    if (first < 0xD800 || first > 0xDFFF) return first;
    if (first > 0xDBFF || text_.substr(at_, 2) != "\\u") fail("half of a surrogate pair");
    at_ += 2;
    const std::uint32_t second = hex();
    if (second < 0xDC00 || second > 0xDFFF) fail("half of a surrogate pair");
    return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
  }

  std::uint32_t hex() {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = ahead();
      std::uint32_t digit = 0;
      const auto [end, error] = std::from_chars(&c, &c + 1, digit, 16);
      if (error != std::errc{}) fail("an escape without four hexadecimal digits");
      value = value * 16 + digit;
    }
    return value;
  }

  void digits() {
    if (!is_digit(ahead())) fail("a number without digits where some should be");
    while (is_digit(ahead())) ++at_;
  }

  void number() {
    const std::size_t begin = at_;
    if (ahead() == '-') ++at_;
    if (ahead() == '0') {
      ++at_;
    } else {
      digits();
    }
    if (ahead() == '.') {
      ++at_;
      digits();
    }
    if (ahead() == 'e' || ahead() == 'E') {
      ++at_;
      if (ahead() == '+' || ahead() == '-') ++at_;
      digits();
    }
    double value = 0;
    const char* const end = text_.data() + at_;
    const auto parsed = std::from_chars(text_.data() + begin, end, value);
    if (parsed.ec != std::errc::result_out_of_range) return;
    const std::string copy(text_.substr(begin, at_ - begin));
    if (std::isinf(std::strtod(copy.c_str(), nullptr))) {  // else it is too small, which is 0
      at_ = begin;
      fail("a number that no double holds");
    }
  }

  std::string_view text_;
  std::span<const std::string_view> names_;
  std::vector<Field> fields_;
  std::size_t at_ = 0;
};

}  // namespace

std::optional<std::vector<std::string>> json_strings(std::string_view text,
                                                     std::span<const std::string_view> names,
                                                     std::string_view place, std::size_t before,
                                                     std::string& why) {
  Scanner scanner(text, names);
  try {
    const std::string_view type = scanner.scan();
    if (type != "object") {
      why = cat(": JSON, but ", with_article(type), ", not an object");
      return std::nullopt;
    }
  } catch (const Problem& problem) {
    why = cat(": not valid JSON at byte ", before + problem.at + 1, " of the ", place, ": ",
              problem.what);
    return std::nullopt;
  }
  std::vector<std::string> strings;
  for (std::size_t i = 0; i < names.size(); ++i) {
    Field& field = scanner.fields()[i];
    if (field.type == nullptr) {
      why = cat(": no field \"", names[i], "\"");
      return std::nullopt;
    }
    if (std::string_view(field.type) != "string") {
      why = cat(": the field \"", names[i], "\" is ", with_article(field.type), ", not a string");
      return std::nullopt;
    }
    strings.push_back(std::move(field.text));
  }
  return strings;
}

}  // namespace koios
