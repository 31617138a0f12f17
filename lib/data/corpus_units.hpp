// A dataset cut into units of work, each a run of whole documents, so that many ranks
// can share it and a stopped job can go on with what is left.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/record_reader.hpp"

namespace koios {

struct CorpusUnit {
  std::int64_t file = 0;        // in the list of files
  std::int64_t files = 1;       // and so many whole ones from there on, if more than one
  RecordMark begin;             // in that file alone
  std::int64_t end_record = 0;  // documents of the file before its end; -1: the file's end
  std::int64_t bytes = 0;       // of the file on the disk, for progress
};

/// The units of one file of `bytes` bytes: a plain one is cut about every 32 MiB, which takes a
/// pass over its lines; a packed one, in which there is no going to a place, is one unit. Where
/// `bad` skips, damage that ends the file early is left to whoever reads the last unit.
std::vector<CorpusUnit> cut_file(DataFormat format, const std::vector<std::string>& files,
                                 std::int64_t file, std::int64_t bytes, BadData* bad = nullptr);

/// Small files that lie one behind the other become one unit of a few MiB: of many loose files,
/// each as a unit would take longer to open, name and close than to tokenize. `units` are of whole
/// files or parts of files, in the order of the list.
std::vector<CorpusUnit> group_small_files(const std::vector<CorpusUnit>& units);

/// One line a unit, and back.
std::string to_text(const std::vector<CorpusUnit>& units);
std::vector<CorpusUnit> units_from_text(const std::string& text);

}  // namespace koios
