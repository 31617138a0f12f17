#include "data/corpus_units.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <sstream>
#include <string_view>

#include "core/error.hpp"

namespace koios {
namespace {

constexpr std::int64_t kUnitBytes = 32 * 1024 * 1024;

bool is_packed(const std::string& path) {
  constexpr std::array<std::string_view, 4> kPacked = {".gz", ".zst", ".xz", ".tar"};
  return std::ranges::any_of(kPacked, [&](std::string_view end) { return path.ends_with(end); });
}

}  // namespace

std::vector<CorpusUnit> cut_file(DataFormat format, const std::vector<std::string>& files,
                                 std::int64_t file) {
  const std::string& path = files[static_cast<std::size_t>(file)];
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
  if (is_packed(path) || bytes <= 2 * kUnitBytes) return {{file, {}, -1, bytes}};

  std::vector<CorpusUnit> units = {{file, {}, -1, 0}};
  RecordReader reader(format, {path});
  while (reader.skip()) {
    const RecordMark& mark = reader.mark();
    CorpusUnit& last = units.back();
    last.bytes = mark.byte - last.begin.byte;
    if (last.bytes < kUnitBytes) continue;
    last.end_record = mark.record;
    units.push_back({file, mark, -1, 0});
  }
  if (units.back().bytes == 0 && units.size() > 1) {
    units.pop_back();
    units.back().end_record = -1;
  }
  return units;
}

std::string to_text(const std::vector<CorpusUnit>& units) {
  std::ostringstream text;
  for (const CorpusUnit& unit : units) {
    text << unit.file << ' ' << unit.begin.record << ' ' << unit.begin.byte << ' '
         << unit.begin.line << ' ' << unit.end_record << ' ' << unit.bytes << '\n';
  }
  return text.str();
}

std::vector<CorpusUnit> units_from_text(const std::string& text) {
  std::vector<CorpusUnit> units;
  std::istringstream in(text);
  CorpusUnit unit;
  while (in >> unit.file >> unit.begin.record >> unit.begin.byte >> unit.begin.line >>
         unit.end_record >> unit.bytes) {
    units.push_back(unit);
  }
  return units;
}

}  // namespace koios
