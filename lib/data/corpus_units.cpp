#include "data/corpus_units.hpp"

#include <fmt/format.h>

#include <sstream>

namespace koios {
namespace {

constexpr std::int64_t kUnitBytes = 32 * 1024 * 1024;
constexpr std::int64_t kSmallBytes = 1024 * 1024;
constexpr std::int64_t kGroupBytes = 4 * 1024 * 1024;

}  // namespace

std::vector<CorpusUnit> cut_file(DataFormat format, const std::vector<std::string>& files,
                                 std::int64_t file, std::int64_t bytes, BadData* bad) {
  const std::string& path = files[static_cast<std::size_t>(file)];
  if (bytes <= 2 * kUnitBytes || is_packed(path)) return {{file, 1, {}, -1, bytes}};

  std::vector<CorpusUnit> units = {{file, 1, {}, -1, 0}};
  BadData told_later(OnBadData::skip);  // by who reads the unit
  RecordReader reader(format, {path}, bad != nullptr && bad->skips() ? &told_later : bad);
  while (reader.skip()) {
    const RecordMark& mark = reader.mark();
    CorpusUnit& last = units.back();
    last.bytes = mark.byte - last.begin.byte;
    if (last.bytes < kUnitBytes) continue;
    last.end_record = mark.record;
    units.push_back({file, 1, mark, -1, 0});
  }
  if (units.back().bytes == 0 && units.size() > 1) {
    units.pop_back();
    units.back().end_record = -1;
  }
  return units;
}

std::vector<CorpusUnit> group_small_files(const std::vector<CorpusUnit>& units) {
  std::vector<CorpusUnit> groups;
  const auto is_small_file = [](const CorpusUnit& unit) {
    return unit.begin == RecordMark{} && unit.end_record < 0 && unit.bytes < kSmallBytes;
  };
  for (const CorpusUnit& unit : units) {
    const bool joins = !groups.empty() && is_small_file(unit) && groups.back().end_record < 0 &&
                       groups.back().begin == RecordMark{} &&
                       (groups.back().files > 1 || is_small_file(groups.back())) &&
                       groups.back().file + groups.back().files == unit.file &&
                       groups.back().bytes + unit.bytes <= kGroupBytes;
    if (joins) {
      ++groups.back().files;
      groups.back().bytes += unit.bytes;
    } else {
      groups.push_back(unit);
    }
  }
  return groups;
}

std::string to_text(const std::vector<CorpusUnit>& units) {
  std::string text;
  for (const CorpusUnit& unit : units) {
    text += fmt::format("{} {} {} {} {} {} {}\n", unit.file, unit.files, unit.begin.record,
                        unit.begin.byte, unit.begin.line, unit.end_record, unit.bytes);
  }
  return text;
}

std::vector<CorpusUnit> units_from_text(const std::string& text) {
  std::vector<CorpusUnit> units;
  std::istringstream in(text);
  CorpusUnit unit;
  while (in >> unit.file >> unit.files >> unit.begin.record >> unit.begin.byte >> unit.begin.line >>
         unit.end_record >> unit.bytes) {
    units.push_back(unit);
  }
  return units;
}

}  // namespace koios
