#include "data/record_format.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "core/error.hpp"
#include "core/utf8.hpp"
#include "data/json_records.hpp"
#include "data/line_reader.hpp"

namespace koios {
namespace {

constexpr std::size_t kTextDocumentBytes = 64 * 1024;
constexpr std::size_t kWholeFileBytes = 256 * 1024 * 1024;

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\v\f") == std::string_view::npos;
}

Found read_text(ByteReader& bytes, Document* document, std::string& why) {
  LineReader lines(bytes);
  while (true) {
    if (!lines.peek(kTextDocumentBytes)) return Found::end;
    if (!is_blank(lines.text())) break;
    lines.advance();
  }
  if (document != nullptr) *document = {"", lines.name(), lines.number()};
  std::size_t size = 0;
  bool ends_in_line = false;  // a line longer than a document is cut: the rest is the next one's
  why.clear();
  while (!ends_in_line && lines.peek(kTextDocumentBytes) && !is_blank(lines.text())) {
    const std::size_t joined = size + (size > 0 ? 1 : 0) + lines.text().size();
    if (joined > kTextDocumentBytes) break;
    if (document != nullptr) {
      if (why.empty()) {
        std::string problem = utf8_problem(lines.text(), "line", lines.byte());
        if (problem.empty()) problem = zero_problem(lines.text(), "line", lines.byte());
        if (!problem.empty()) why = cat(lines.name(), ":", lines.number(), problem);
      }
      if (size > 0) document->text += '\n';
      document->text += lines.text();
    }
    size = joined;
    ends_in_line = !lines.is_whole();
    lines.advance();
  }
  return why.empty() ? Found::document : Found::bad;
}

/// re.sub("\n\n\n+", "\n\n", text).strip(), as the dataset's own script has it.
std::string tidy(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\v\f\x1c\x1d\x1e\x1f";  // ASCII of str.strip()
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string::npos) return {};
  std::string tidied;
  std::size_t line_ends = 0;
  for (const char c : text.substr(first, text.find_last_not_of(kSpace) - first + 1)) {
    line_ends = c == '\n' ? line_ends + 1 : 0;
    if (line_ends <= 2) tidied += c;
  }
  return tidied;
}

Found read_whole(ByteReader& bytes, Document* document, std::string& why) {
  const std::size_t most = document != nullptr ? kWholeFileBytes : 0;
  while (bytes.ahead().size() <= most && bytes.fetch()) {
  }
  const std::string_view whole = bytes.ahead();
  if (whole.empty()) return Found::end;
  if (document != nullptr) {
    why.clear();
    if (whole.size() > kWholeFileBytes) {
      why = cat(": larger than ", kWholeFileBytes >> 20,
                " MiB; in this format a file is one document");
    }
    if (why.empty()) why = utf8_problem(whole, "file", bytes.byte());
    // Only in front: what is published may well have one somewhere.
    if (why.empty()) why = zero_problem(whole.substr(0, 1), "file", bytes.byte());
    if (why.empty()) *document = {tidy(whole), bytes.name(), 1};
  }
  do {  // all of it
    bytes.consume(bytes.ahead().size(), std::ranges::count(bytes.ahead(), '\n'));
  } while (bytes.fetch());
  if (document == nullptr || why.empty()) return Found::document;
  why = bytes.name() + why;
  return Found::bad;
}

constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kTarNames = {
    {{".tgz", ".tar"}, {".txz", ".tar"}, {".tzst", ".tar"}}};

}  // namespace

const std::vector<RecordFormat>& record_formats() {
  static const std::vector<RecordFormat> table = {
      {DataFormat::text, "text", {".txt"}, read_text, false},
      {DataFormat::jsonl, "jsonl", {".jsonl", ".json"}, read_jsonl, false},
      {DataFormat::c4, "c4", {".json"}, read_jsonl, false},
      {DataFormat::alpaca, "alpaca", {".json"}, read_alpaca, true},
      {DataFormat::openwebtext, "openwebtext", {".txt"}, read_whole, false},
      {DataFormat::tokens, "tokens", {".tokens"}, nullptr, false},
  };
  return table;
}

const RecordFormat& record_format(DataFormat format) {
  const auto entry = std::ranges::find(record_formats(), format, &RecordFormat::format);
  KOIOS_REQUIRE(entry != record_formats().end(), "format ", static_cast<int>(format));
  return *entry;
}

const RecordFormat& record_format(std::string_view name) {
  const auto entry = std::ranges::find(record_formats(), name, &RecordFormat::name);
  KOIOS_REQUIRE(entry != record_formats().end(), "format ", name);
  return *entry;
}

bool wants_file(const RecordFormat& format, std::string_view name) {
  std::string base(name.substr(name.rfind('/') + 1));  // npos + 1 is 0
  if (base.empty() || base.front() == '.') return false;
  for (const auto& [shorthand, meant] : kTarNames) {
    if (base.ends_with(shorthand)) base.replace(base.size() - shorthand.size(), 5, meant);
  }
  bool is_packed = false;
  for (const std::string_view packed : {".gz", ".zst", ".xz"}) {
    if (!base.ends_with(packed)) continue;
    base.resize(base.size() - packed.size());
    is_packed = true;
  }
  const auto dot = base.rfind('.');
  if (dot == std::string::npos) return is_packed;
  const auto extension = std::string_view(base).substr(dot);
  return extension == ".tar" ||
         std::ranges::find(format.extensions, extension) != format.extensions.end();
}

}  // namespace koios
