// The documents of a list of files, one after the other, and places in that order to come back to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/line_reader.hpp"
#include "data/record_format.hpp"

namespace koios {

/// A place between two documents.
struct RecordMark {
  std::int64_t record = 0;  // documents before it, counted through all files
  std::int64_t file = 0;    // index in the list of files
  std::int64_t byte = 0;    // in that file
  std::int64_t line = 0;    // whole lines before it in that file

  bool operator==(const RecordMark&) const = default;
};

class RecordReader {
 public:
  RecordReader(DataFormat format, std::vector<std::string> files);

  /// The next document in file order; false at the end of the last file.
  bool next(Document& document) { return read(&document); }
  /// Passes over one document without checking or decoding it.
  bool skip() { return read(nullptr); }

  const RecordMark& mark() const { return mark_; }
  /// To a mark taken before on the same files; RecordMark{} is the beginning.
  void seek(const RecordMark& mark);

 private:
  bool read(Document* document);

  const RecordFormat* format_;
  std::vector<std::string> files_;
  RecordMark mark_;
  std::optional<LineReader> lines_;  // of the current file, once something is read from it
};

}  // namespace koios
