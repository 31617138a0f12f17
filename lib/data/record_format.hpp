// How documents lie in a file, one entry a format. A new format is one more entry.
//   text   a document is a run of lines that are not blank, joined as they stand; blank lines
//          separate documents. It ends after 64 KiB at the latest, at the end of a line where
//          there is one, so that a file without blank lines becomes documents of about that size.
//   jsonl  one JSON object a line; the document is its field "text". Blank lines are passed over.
// Text that is not UTF-8, invalid JSON and a missing field are UserErrors naming file and line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace koios {

class LineReader;

enum class DataFormat { text, jsonl };

std::string_view to_string(DataFormat format);

/// A document and where it begins.
struct Document {
  std::string text;
  std::string file;
  std::int64_t line = 0;
};

struct RecordFormat {
  DataFormat format;
  std::string_view name;
  std::vector<std::string_view> extensions;  // of the files taken from a folder
  /// Reads the next document of a file, or with null passes over it unchecked; false at the end.
  bool (*read)(LineReader& lines, Document* document);
};

const std::vector<RecordFormat>& record_formats();
const RecordFormat& record_format(DataFormat format);

}  // namespace koios
