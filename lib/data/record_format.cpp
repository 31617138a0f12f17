#include "data/record_format.hpp"

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "data/line_reader.hpp"
#include "data/utf8.hpp"

namespace koios {
namespace {

constexpr std::size_t kTextDocumentBytes = 64 * 1024;
constexpr std::size_t kJsonLineBytes = 256 * 1024 * 1024;

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\v\f") == std::string_view::npos;
}

std::string where(const LineReader& lines) { return cat(lines.path(), ":", lines.number()); }

void require_utf8(const LineReader& lines) {
  const std::string_view text = lines.text();
  const auto bad = find_invalid_utf8(text);
  if (bad == std::string_view::npos) return;
  throw UserError(cat(where(lines), ": not UTF-8: byte ", bad + 1, " of the line (byte ",
                      lines.byte() + narrow<std::int64_t>(bad) + 1, " of the file) is 0x", std::hex,
                      static_cast<unsigned>(static_cast<unsigned char>(text[bad])),
                      "; convert the file, for example iconv -f latin1 -t utf-8"));
}

bool skip_blank_lines(LineReader& lines, std::size_t max_bytes) {
  while (lines.peek(max_bytes)) {
    if (!is_blank(lines.text())) return true;
    lines.advance();
  }
  return false;
}

bool read_text(LineReader& lines, Document* document) {
  if (!skip_blank_lines(lines, kTextDocumentBytes)) return false;
  if (document != nullptr) *document = {"", lines.path(), lines.number()};
  std::size_t size = 0;
  bool ends_in_line = false;  // a line longer than a document is cut: the rest is the next one's
  while (!ends_in_line && lines.peek(kTextDocumentBytes) && !is_blank(lines.text())) {
    const std::size_t joined = size + (size > 0 ? 1 : 0) + lines.text().size();
    if (joined > kTextDocumentBytes) break;
    if (document != nullptr) {
      require_utf8(lines);
      if (size > 0) document->text += '\n';
      document->text += lines.text();
    }
    size = joined;
    ends_in_line = !lines.is_whole();
    lines.advance();
  }
  return true;
}

/// nlohmann's message without its prefix and its line (always 1), and of bounded length.
std::string json_reason(const nlohmann::json::parse_error& error) {
  std::string reason = error.what();
  if (const auto at = reason.find("syntax error"); at != std::string::npos) reason.erase(0, at);
  if (reason.size() > 200) reason = reason.substr(0, utf8_cut(reason, 200)) + "...";
  return reason;
}

std::string parse_json_text(const LineReader& lines) {
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(lines.text());
  } catch (const nlohmann::json::parse_error& error) {
    throw UserError(cat(where(lines), ": not valid JSON at byte ", error.byte,
                        " of the line: ", json_reason(error)));
  }
  if (!object.is_object()) {
    throw UserError(cat(where(lines), ": a JSON ", object.type_name(), ", not an object"));
  }
  const auto field = object.find("text");
  if (field == object.end()) throw UserError(cat(where(lines), ": no field \"text\""));
  if (!field->is_string()) {
    throw UserError(
        cat(where(lines), ": the field \"text\" is a ", field->type_name(), ", not a string"));
  }
  return std::move(field->get_ref<std::string&>());
}

bool read_jsonl(LineReader& lines, Document* document) {
  if (!skip_blank_lines(lines, kJsonLineBytes)) return false;
  if (!lines.is_whole()) {
    throw UserError(cat(where(lines), ": longer than ", kJsonLineBytes >> 20,
                        " MiB; format jsonl has one JSON object a line"));
  }
  if (document != nullptr) {
    require_utf8(lines);
    *document = {parse_json_text(lines), lines.path(), lines.number()};
  }
  lines.advance();
  return true;
}

}  // namespace

const std::vector<RecordFormat>& record_formats() {
  static const std::vector<RecordFormat> table = {
      {DataFormat::text, "text", {".txt"}, read_text},
      {DataFormat::jsonl, "jsonl", {".jsonl", ".json"}, read_jsonl},
  };
  return table;
}

const RecordFormat& record_format(DataFormat format) {
  const auto entry = std::ranges::find(record_formats(), format, &RecordFormat::format);
  KOIOS_REQUIRE(entry != record_formats().end(), "format ", static_cast<int>(format));
  return *entry;
}

std::string_view to_string(DataFormat format) { return record_format(format).name; }

}  // namespace koios
