#include "data/json_records.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/utf8.hpp"
#include "data/json_scan.hpp"
#include "data/line_reader.hpp"

namespace koios {
namespace {

constexpr std::size_t kObjectBytes = 256 * 1024 * 1024;
constexpr std::size_t kPassedBytes = 64 * 1024;  // held at once of what is passed over

bool is_json_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// Passes over white space; returns the bytes of it since the last line end.
std::size_t pass_space(ByteReader& bytes) {
  std::size_t in_line = 0;
  do {
    const std::string_view ahead = bytes.ahead();
    const auto end = std::ranges::find_if_not(ahead, is_json_space);
    const std::string_view space = ahead.substr(0, static_cast<std::size_t>(end - ahead.begin()));
    const auto line_end = space.rfind('\n');
    in_line =
        line_end == std::string_view::npos ? in_line + space.size() : space.size() - line_end - 1;
    bytes.consume(space.size(), std::ranges::count(space, '\n'));
  } while (bytes.ahead().empty() && bytes.fetch());
  return in_line;
}

std::string where(const ByteReader& bytes) {
  return cat(bytes.name(), ":", bytes.lines_before() + 1);
}

/// Passes over white space; the character then ahead, 0 at the end.
char next_character(ByteReader& bytes) {
  pass_space(bytes);
  return bytes.ahead().empty() ? '\0' : bytes.ahead().front();
}

/// Finds the end of an object, array or string, whose bytes come in pieces, by brackets and quotes
/// alone.
class Brackets {
 public:
  /// Bytes of the next piece up to and with the end; npos where it goes on behind the piece.
  std::size_t find_end(std::string_view piece) {
    for (std::size_t at = 0; at < piece.size(); ++at) {
      const char c = piece[at];
      if (is_escaped_) {
        is_escaped_ = false;
      } else if (in_string_) {
        in_string_ = c != '"';
        is_escaped_ = c == '\\';
        if (!in_string_ && depth_ == 0) return at + 1;
      } else if (c == '"') {
        in_string_ = true;
      } else if (c == '{' || c == '[') {
        ++depth_;
      } else if ((c == '}' || c == ']') && --depth_ == 0) {
        return at + 1;
      }
    }
    return std::string_view::npos;
  }

 private:
  std::int64_t depth_ = 0;
  bool in_string_ = false;
  bool is_escaped_ = false;
};

/// Bytes of the object that begins ahead, all of which is then ahead. None where it is not wanted
/// or too large, and has been passed over.
std::optional<std::size_t> find_object(ByteReader& bytes, bool is_wanted) {
  const std::string place = where(bytes);
  const auto pass = [&](std::size_t size) {
    bytes.consume(size, std::ranges::count(bytes.ahead().substr(0, size), '\n'));
  };
  Brackets brackets;
  std::size_t size = 0;
  while (true) {
    const std::string_view piece = bytes.ahead().substr(size);
    const std::size_t end = brackets.find_end(piece);
    size += end == std::string_view::npos ? piece.size() : end;
    if (!is_wanted || size > kObjectBytes) {
      pass(size);
      size = 0;
      is_wanted = false;
    }
    if (end != std::string_view::npos) return is_wanted ? std::optional(size) : std::nullopt;
    if (!bytes.fetch()) {
      throw BadFile(cat(place, ": the file ends inside of the object that begins here"));
    }
  }
}

/// Passes over what stands in an object's place.
void pass_other_value(ByteReader& bytes) {
  const char first = bytes.ahead().front();
  if (first == '[' || first == '"') {
    find_object(bytes, false);
    return;
  }
  bool is_more = true;
  while (is_more) {  // a number or a word
    const std::string_view ahead = bytes.ahead();
    const std::size_t end = ahead.find_first_of(",]} \t\r\n");
    bytes.consume(std::min(end, ahead.size()), 0);
    is_more = end == std::string_view::npos && bytes.fetch();
  }
}

/// The published prompt, with and without an input.
std::string fill_prompt(const std::string& instruction, const std::string& input,
                        const std::string& output) {
  const std::string_view with_input =
      "Below is an instruction that describes a task, paired with an input that provides further "
      "context. Write a response that appropriately completes the request.";
  const std::string_view without =
      "Below is an instruction that describes a task. Write a response that appropriately "
      "completes the request.";
  return cat(input.empty() ? without : with_input, "\n\n### Instruction:\n", instruction,
             input.empty() ? "" : "\n\n### Input:\n", input, "\n\n### Response:\n", output);
}

std::optional<std::string> prompt_of(std::string_view text, std::int64_t byte, std::string& why) {
  static constexpr std::array<std::string_view, 3> kNames = {"instruction", "input", "output"};
  if (why = utf8_problem(text, "object", byte); !why.empty()) return std::nullopt;
  const auto fields = json_strings(text, kNames, "object", 0, why);
  if (!fields) return std::nullopt;
  return fill_prompt((*fields)[0], (*fields)[1], (*fields)[2]);
}

/// Text of the line, of which `before` bytes of white space were passed over.
std::optional<std::string> text_of_line(const LineReader& lines, std::size_t before,
                                        std::string& why) {
  static constexpr std::array<std::string_view, 1> kNames = {"text"};
  if (!lines.is_whole()) {
    why = cat(": a line longer than ", kObjectBytes >> 20,
              " MiB; this format has one JSON object a line");
    return std::nullopt;
  }
  if (why = utf8_problem(lines.text(), "line", lines.byte()); !why.empty()) return std::nullopt;
  auto fields = json_strings(lines.text(), kNames, "line", before, why);
  if (!fields) return std::nullopt;
  return std::move(fields->front());
}

}  // namespace

Found read_jsonl(ByteReader& bytes, Document* document, std::string& why) {
  const std::size_t before = pass_space(bytes);
  LineReader lines(bytes);
  std::optional<std::string> text;
  const std::string place = where(bytes);
  const std::int64_t number = lines.number();
  if (!lines.peek(document != nullptr ? kObjectBytes : kPassedBytes)) return Found::end;
  if (document != nullptr) text = text_of_line(lines, before, why);
  while (!lines.is_whole()) {
    lines.advance();
    if (!lines.peek(kPassedBytes)) break;
  }
  lines.advance();
  if (document == nullptr) return Found::document;
  if (!text) {
    why = place + why;
    return Found::bad;
  }
  *document = {std::move(*text), bytes.name(), number};
  return Found::document;
}

Found read_alpaca(ByteReader& bytes, Document* document, std::string& why) {
  // Between two calls the place is before "[" or behind the "," or "]" after an object.
  const bool at_start = bytes.byte() <= 3;  // a byte-order mark has three
  char c = next_character(bytes);
  if (c == '[' && at_start) {
    bytes.consume(1, 0);
    c = next_character(bytes);
    if (c == ']') {
      bytes.consume(1, 0);
      c = next_character(bytes);
    }
  } else if (c != '\0' && at_start) {
    throw BadFile(cat(where(bytes),
                      ": not a JSON array, as alpaca is published; JSON lines with a "
                      "field text are format jsonl"));
  }
  if (c == '\0') return Found::end;
  if (c == ',' || c == ']' || c == '}') {
    throw BadFile(cat(where(bytes), ": no JSON object, where one should begin"));
  }

  const std::string place = where(bytes);
  const std::int64_t line = bytes.lines_before() + 1;
  std::optional<std::string> text;
  if (c != '{') {
    why = ": no JSON object, but another value";
    pass_other_value(bytes);
  } else if (const auto size = find_object(bytes, document != nullptr)) {
    const std::string_view object = bytes.ahead().substr(0, *size);
    text = prompt_of(object, bytes.byte(), why);
    bytes.consume(*size, std::ranges::count(object, '\n'));
  } else {
    why = cat(": an object of more than ", kObjectBytes >> 20, " MiB");
  }
  c = next_character(bytes);
  if (c != ',' && c != ']') {
    throw BadFile(cat(where(bytes), ": neither , nor ] after an object",
                      c == '\0' ? "; the file is cut short" : ""));
  }
  bytes.consume(1, 0);
  if (c == ',' && next_character(bytes) == '\0') {
    throw BadFile(cat(where(bytes), ": no JSON object after a comma; the file is cut short"));
  }
  if (document == nullptr) return Found::document;
  if (!text) {
    why = place + why;
    return Found::bad;
  }
  *document = {std::move(*text), bytes.name(), line};
  return Found::document;
}

}  // namespace koios
