// How documents lie in a file, one entry a format. A new format is one more entry.
//   text         a document is a run of lines that are not blank, joined as they stand; blank lines
//                separate documents. It ends after 64 KiB at the latest, at the end of a line where
//                there is one, so that a file without blank lines becomes documents of that size.
//   jsonl        one JSON object a line; the document is its field "text". Blank lines are passed
//                over.
//   c4           jsonl as allenai/c4 publishes it; of a folder with training and validation files
//                only those asked for are taken.
//   alpaca       a JSON array of objects with instruction, input and output, filled into the
//                prompt that the dataset's authors publish with it.
//   openwebtext  each file, or member of an archive, is a document: runs of blank lines become one,
//                blanks at both ends go (as Skylion007/openwebtext does it).
//   tokens       no documents but their ids, see token_file.hpp; here for the files' names only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/choices.hpp"

namespace koios {

class ByteReader;

/// A document and where it begins.
struct Document {
  std::string text;
  std::string file;
  std::int64_t line = 0;
  /// In its place was something that cannot be used and has been told to BadData; no text.
  bool is_bad = false;
};

enum class Found { end, document, bad };

struct RecordFormat {
  DataFormat format;
  std::string_view name;
  std::vector<std::string_view> extensions;  // of the files taken from a folder, when unpacked
  /// Reads the next document of a file; `why` says why it is bad. With null it passes over the
  /// document unchecked, to the same place. BadFile where there is no reading on.
  Found (*read)(ByteReader& bytes, Document* document, std::string& why);
  bool is_array;  // many records may be in one line: messages give their number
};

const std::vector<RecordFormat>& record_formats();
const RecordFormat& record_format(DataFormat format);
/// That of a name, which must be in the table.
const RecordFormat& record_format(std::string_view name);

/// Whether a file of this name, in a folder or an archive, is taken: one with an extension of the
/// format, also packed (.gz, .zst, .xz, .tar), or packed and without another one.
bool wants_file(const RecordFormat& format, std::string_view name);

}  // namespace koios
