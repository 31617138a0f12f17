// The documents of a list of files, one after the other, and places in that order to come back to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/bad_data.hpp"
#include "data/byte_reader.hpp"
#include "data/packed_file.hpp"
#include "data/record_format.hpp"

namespace koios {

/// A place between two documents.
struct RecordMark {
  std::int64_t record = 0;  // documents before it, bad ones too, counted through all files
  std::int64_t file = 0;    // index in the list of files
  std::int64_t byte = 0;    // in that file unpacked, members of an archive one behind the other
  std::int64_t line = 0;    // whole lines before it in that file or member

  bool operator==(const RecordMark&) const = default;
};

/// Throws the UserError for data that are not those in which a position was saved; `what` says
/// where they differ.
[[noreturn]] void refuse_changed_data(const std::string& what);

class RecordReader {
 public:
  /// bad: told of what cannot be used, and must outlive the reader; null: it is thrown.
  RecordReader(DataFormat format, std::vector<std::string> files, BadData* bad = nullptr);

  /// The next document in file order, which may be a bad one (is_bad); false at the end of the last
  /// file. The rest of a file that cannot be read on is left out. UserError where a million
  /// documents in a row were bad: that is a mistake, and no end of it would be in sight.
  bool next(Document& document) { return read(&document); }
  /// Passes over one document without checking or decoding it.
  bool skip() { return read(nullptr); }

  const RecordMark& mark() const { return mark_; }
  /// Who is told of what cannot be used; null: nobody.
  BadData* bad_data() const { return bad_; }
  /// Why a mark cannot have been taken in these files, as far as their sizes tell; else empty.
  std::string why_not(const RecordMark& mark) const;
  /// To a mark taken before on the same files; RecordMark{} is the beginning.
  void seek(const RecordMark& mark);

 private:
  bool read(Document* document);
  bool read_member(Document* document);
  Found read_record(Document* document, std::string& why);
  void open_at_mark();
  bool open_next_member();
  std::string record_number() const;
  void to_next_file();

  const RecordFormat* format_;
  std::vector<std::string> files_;
  BadData* bad_;
  RecordMark mark_;
  // Of the current file, once something is read from it:
  std::optional<PackedFile> file_;
  std::optional<ByteReader> bytes_;  // of its current member
  std::int64_t member_begin_ = 0;
  std::int64_t records_ = -1;  // of the current file before the mark; -1: not known
  std::int64_t useless_ = 0;   // bad documents in a row
};

}  // namespace koios
