#include "data/record_reader.hpp"

#include <filesystem>
#include <new>
#include <system_error>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {
namespace {

constexpr std::int64_t kMostUseless = 1'000'000;

}  // namespace

void refuse_changed_data(const std::string& what) {
  throw UserError(cat(what, ": the data has changed since the position in it was saved; put it ",
                      "back as it was, or start anew in another job/dump_folder (which ",
                      "checkpoint/initial_load_path can give the weights of this run)"));
}

RecordReader::RecordReader(DataFormat format, std::vector<std::string> files, BadData* bad)
    : format_(&record_format(format)), files_(std::move(files)), bad_(bad) {}

std::string RecordReader::why_not(const RecordMark& mark) const {
  if (mark.file >= std::ssize(files_)) {
    return cat("in file ", mark.file + 1, " of ", files_.size());
  }
  const std::string& path = files_[static_cast<std::size_t>(mark.file)];
  std::error_code not_there;  // told when it is opened
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(path, not_there));
  if (!not_there && mark.byte > bytes && !is_packed(path)) {
    return cat(path, " has ", bytes, " bytes");
  }
  return "";
}

void RecordReader::seek(const RecordMark& mark) {
  if (mark.file > std::ssize(files_)) {
    refuse_changed_data(cat("there were at least ", mark.file, " files, now ", files_.size()));
  }
  mark_ = mark;
  bytes_.reset();
  file_.reset();
}

bool RecordReader::open_next_member() {
  const std::int64_t end = bytes_ ? member_begin_ + bytes_->byte() : 0;
  bytes_.reset();  // it lives on the file's present member
  auto member = file_->next();
  if (!member) return false;
  member_begin_ = end;
  bytes_.emplace(std::move(member->bytes), std::move(member->name));
  return true;
}

void RecordReader::open_at_mark() {
  const std::string& path = files_[static_cast<std::size_t>(mark_.file)];
  file_.emplace(
      path, [format = format_](const auto& name) { return wants_file(*format, name); },
      [bad = bad_](const std::string& what) {
        if (bad != nullptr) bad->note(what);
      });
  member_begin_ = 0;
  records_ = mark_.byte == 0 ? 0 : -1;
  if (mark_.byte == 0) {
    open_next_member();
    return;
  }
  while (auto member = file_->next()) {
    const std::int64_t wanted = mark_.byte - member_begin_;
    const std::int64_t there = member->bytes->skip(wanted);
    if (there == wanted) {
      bytes_.emplace(std::move(member->bytes), std::move(member->name), wanted, mark_.line);
      return;
    }
    member_begin_ += there;
  }
  refuse_changed_data(cat(path, ": is shorter than the position in it (byte ", mark_.byte, ")"));
}

/// Of the record at the mark, where its line would not tell enough.
std::string RecordReader::record_number() const {
  if (!format_->is_array) return "";
  std::int64_t before = records_;
  if (before < 0) {
    RecordReader counting(format_->format, {files_[static_cast<std::size_t>(mark_.file)]});
    for (before = 0; counting.mark().byte < mark_.byte && counting.skip();) ++before;
  }
  return cat(" (record ", before + 1, " of the file)");
}

void RecordReader::to_next_file() {
  bytes_.reset();
  file_.reset();
  mark_ = {mark_.record, mark_.file + 1, 0, 0};
}

/// A document that is too large for the memory is a bad one.
Found RecordReader::read_record(Document* document, std::string& why) {
  const std::int64_t line = bytes_->lines_before() + 1;
  try {
    return format_->read(*bytes_, document, why);
  } catch (const std::bad_alloc&) {
    if (document == nullptr) throw;
    *document = {};
    why = no_memory_at(cat(bytes_->name(), ":", line), "this document");
    std::string unused;
    format_->read(*bytes_, nullptr, unused);
    return Found::bad;
  }
}

/// One document of the current file; false where it has no more.
bool RecordReader::read_member(Document* document) {
  if (!file_) open_at_mark();
  std::string why;
  while (bytes_) {
    const Found found = read_record(document, why);
    if (found == Found::end) {
      if (!open_next_member()) return false;
      continue;
    }
    if (found == Found::bad) why += record_number();
    ++mark_.record;
    if (records_ >= 0) ++records_;
    mark_.byte = member_begin_ + bytes_->byte();
    mark_.line = bytes_->lines_before();
    if (found == Found::bad) {
      *document = {"", bytes_->name(), mark_.line, true};
      tell_bad(bad_, why);
      if (++useless_ == kMostUseless) {
        throw UserError(
            cat(kMostUseless, " documents in a row cannot be used, the last one: ", why));
      }
    } else if (document != nullptr) {
      useless_ = 0;
    }
    return true;
  }
  return false;
}

bool RecordReader::read(Document* document) {
  while (mark_.file < std::ssize(files_)) {
    try {
      if (read_member(document)) return true;
    } catch (const BadFile& bad) {
      const std::string what = bad.what() + (file_ ? record_number() : "");
      if (bad_ == nullptr || !bad_->skips()) throw BadFile(what);
      bad_->found(cat(what, "; the rest of ", files_[static_cast<std::size_t>(mark_.file)],
                      " is left out"));
    }
    to_next_file();
  }
  return false;
}

}  // namespace koios
