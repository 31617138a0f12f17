#include "data/json_records.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/utf8.hpp"
#include "data/line_reader.hpp"

namespace koios {
namespace {

constexpr std::size_t kObjectBytes = 256 * 1024 * 1024;

bool is_json_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// nlohmann's message without its prefix and its line (always 1), and of bounded length.
std::string json_reason(const nlohmann::json::exception& error) {
  std::string reason = error.what();
  for (const char* from : {"syntax error", "number overflow"}) {
    if (const auto at = reason.find(from); at != std::string::npos) reason.erase(0, at);
  }
  if (reason.size() > 200) reason = reason.substr(0, utf8_cut(reason, 200)) + "...";
  return reason;
}

/// The object in `text`, or none and why.
std::optional<nlohmann::json> parse_object(std::string_view text, std::string_view place,
                                           std::string& why) {
  try {
    auto object = nlohmann::json::parse(text);
    if (object.is_object()) return object;
    why = cat(": a JSON ", object.type_name(), ", not an object");
  } catch (const nlohmann::json::parse_error& error) {
    why = cat(": not valid JSON at byte ", error.byte, " of the ", place, ": ", json_reason(error));
  } catch (const nlohmann::json::out_of_range& error) {  // the grammar has numbers of any size
    why = cat(": a number that no double holds: ", json_reason(error));
  }
  return std::nullopt;
}

/// The field's text, or null and why.
std::string* string_field(nlohmann::json& object, const char* name, std::string& why) {
  const auto field = object.find(name);
  if (field == object.end()) {
    why = cat(": no field \"", name, "\"");
    return nullptr;
  }
  if (!field->is_string()) {
    why = cat(": the field \"", name, "\" is a ", field->type_name(), ", not a string");
    return nullptr;
  }
  return &field->get_ref<std::string&>();
}

/// Text of the line; none and why where it is no such object.
std::optional<std::string> text_of_line(const LineReader& lines, std::string& why) {
  if (why = utf8_problem(lines.text(), "line", lines.byte()); !why.empty()) return std::nullopt;
  auto object = parse_object(lines.text(), "line", why);
  if (!object) return std::nullopt;
  std::string* text = string_field(*object, "text", why);
  return text == nullptr ? std::nullopt : std::optional(std::move(*text));
}

void pass_space(ByteReader& bytes) {
  do {
    const std::string_view ahead = bytes.ahead();
    const auto end = std::ranges::find_if_not(ahead, is_json_space);
    const std::string_view space = ahead.substr(0, static_cast<std::size_t>(end - ahead.begin()));
    bytes.consume(space.size(), std::ranges::count(space, '\n'));
  } while (bytes.ahead().empty() && bytes.fetch());
}

std::string where(const ByteReader& bytes) {
  return cat(bytes.name(), ":", bytes.lines_before() + 1);
}

/// Passes over white space; the character then ahead, 0 at the end.
char next_character(ByteReader& bytes) {
  pass_space(bytes);
  return bytes.ahead().empty() ? '\0' : bytes.ahead().front();
}

/// Bytes of the object or array ahead, found by its brackets and strings alone.
std::size_t value_size(ByteReader& bytes) {
  std::size_t at = 0;
  std::int64_t depth = 0;
  bool in_string = false;
  while (at < kObjectBytes) {
    if (at == bytes.ahead().size()) {
      if (bytes.fetch()) continue;
      throw BadFile(cat(where(bytes), ": the file ends inside of the object that begins here"));
    }
    const char c = bytes.ahead()[at++];
    if (in_string) {
      if (c == '"') in_string = false;
      if (c != '\\') continue;
      if (at == bytes.ahead().size() && !bytes.fetch()) continue;
      ++at;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if ((c == '}' || c == ']') && --depth == 0) {
      return at;
    }
  }
  throw BadFile(cat(where(bytes), ": an object of more than ", kObjectBytes >> 20, " MiB"));
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
  if (why = utf8_problem(text, "object", byte); !why.empty()) return std::nullopt;
  auto object = parse_object(text, "object", why);
  if (!object) return std::nullopt;
  const std::string* instruction = string_field(*object, "instruction", why);
  const std::string* input = instruction ? string_field(*object, "input", why) : nullptr;
  const std::string* output = input ? string_field(*object, "output", why) : nullptr;
  if (output == nullptr) return std::nullopt;
  return fill_prompt(*instruction, *input, *output);
}

}  // namespace

Found read_jsonl(ByteReader& bytes, Document* document, std::string& why) {
  LineReader lines(bytes);
  do {
    if (!lines.peek(kObjectBytes)) return Found::end;
    if (lines.is_whole() && std::ranges::all_of(lines.text(), is_json_space)) {
      lines.advance();
      continue;
    }
    break;
  } while (true);

  const std::string place = where(bytes);
  if (!lines.is_whole()) {
    throw BadFile(cat(place, ": a line longer than ", kObjectBytes >> 20,
                      " MiB; this format has one JSON object a line"));
  }
  std::optional<std::string> text;
  const std::int64_t number = lines.number();
  if (document != nullptr) text = text_of_line(lines, why);
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
  if (c != '{') throw BadFile(cat(where(bytes), ": no JSON object, where one should begin"));

  const std::string place = where(bytes);
  const std::int64_t line = bytes.lines_before() + 1;
  const std::size_t size = value_size(bytes);
  const std::string_view object = bytes.ahead().substr(0, size);
  std::optional<std::string> text;
  if (document != nullptr) text = prompt_of(object, bytes.byte(), why);
  bytes.consume(size, std::ranges::count(object, '\n'));
  c = next_character(bytes);
  if (c != ',' && c != ']') {
    throw BadFile(cat(where(bytes), ": neither , nor ] after an object",
                      c == '\0' ? "; the file is cut short" : ""));
  }
  bytes.consume(1, 0);
  if (c == ',' && next_character(bytes) != '{') {
    throw BadFile(cat(where(bytes), ": no JSON object after a comma",
                      bytes.ahead().empty() ? "; the file is cut short" : ""));
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
