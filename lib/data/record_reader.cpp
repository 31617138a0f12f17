#include "data/record_reader.hpp"

#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {

RecordReader::RecordReader(DataFormat format, std::vector<std::string> files)
    : format_(&record_format(format)), files_(std::move(files)) {}

void RecordReader::seek(const RecordMark& mark) {
  if (mark.file > std::ssize(files_)) {
    throw UserError(
        cat("the data has changed: it had at least ", mark.file, " files, now ", files_.size()));
  }
  mark_ = mark;
  lines_.reset();
}

bool RecordReader::read(Document* document) {
  while (mark_.file < std::ssize(files_)) {
    if (!lines_) lines_.emplace(files_[mark_.file], mark_.byte, mark_.line);
    if (format_->read(*lines_, document)) {
      ++mark_.record;
      mark_.byte = lines_->byte();
      mark_.line = lines_->lines_before();
      return true;
    }
    lines_.reset();
    mark_ = {mark_.record, mark_.file + 1, 0, 0};
  }
  return false;
}

}  // namespace koios
