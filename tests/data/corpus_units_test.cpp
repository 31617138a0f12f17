// A dataset cut into units of work: all documents once, whatever is wrong with the end of a file.
#include "data/corpus_units.hpp"

#include <filesystem>

#include "packing_tools.hpp"

namespace koios {
namespace {

using testing::shell;
using testing::TempFolder;
using testing::user_error;

std::vector<CorpusUnit> units_of(DataFormat format, const std::vector<std::string>& files,
                                 std::int64_t file = 0, BadData* bad = nullptr) {
  const auto bytes = std::filesystem::file_size(files[static_cast<std::size_t>(file)]);
  return cut_file(format, files, file, static_cast<std::int64_t>(bytes), bad);
}

/// The first letters of the documents that all units of a file hold, in order.
std::string first_letters(DataFormat format, const std::string& path, BadData* bad) {
  std::string letters;
  for (const CorpusUnit& unit : units_of(format, {path}, 0, bad)) {
    RecordReader reader(format, {path}, bad);
    reader.seek(unit.begin);
    for (Document document; (unit.end_record < 0 || reader.mark().record < unit.end_record) &&
                            reader.next(document);) {
      letters += document.text.at(0);
    }
  }
  return letters;
}

/// Ten lines of 9 MB, each of a letter of its own: above the size from which a file is cut.
std::string large_lines() {
  std::string lines;
  for (char letter = 'a'; letter < 'k'; ++letter) {
    lines += cat("{\"text\": \"", std::string(9'000'000, letter), "\"}\n");
  }
  return lines;
}

TEST(CorpusUnits, hold_every_document_once) {
  const TempFolder folder;
  const auto plain = folder.write("a.jsonl", large_lines());
  EXPECT_GT(units_of(DataFormat::jsonl, {plain}, 0).size(), 1u);
  EXPECT_EQ(first_letters(DataFormat::jsonl, plain, nullptr), "abcdefghij");
  // Of what is packed, whatever its name, no part can be read without all before it.
  shell(folder, "tar -cf misnamed.jsonl a.jsonl");
  EXPECT_EQ(units_of(DataFormat::jsonl, {folder.path("misnamed.jsonl")}, 0).size(), 1u);
  EXPECT_EQ(first_letters(DataFormat::jsonl, folder.path("misnamed.jsonl"), nullptr), "abcdefghij");
}

TEST(CorpusUnits, of_a_file_that_breaks_off_go_as_far_as_it_does_and_tell_it_once) {
  const TempFolder folder;
  const std::string object =
      cat(R"({"instruction": ")", std::string(9'000'000, 'x'), R"(", "input": "", "output": ""})");
  std::string array = "[" + object;
  for (int i = 1; i < 9; ++i) array += "," + object;
  const auto file = folder.write("a.json", array.substr(0, array.size() - 5));
  EXPECT_CONTAINS(user_error([&] { units_of(DataFormat::alpaca, {file}, 0); }), "the file ends");
  BadData bad(OnBadData::skip);
  EXPECT_EQ(first_letters(DataFormat::alpaca, file, &bad), "BBBBBBBB");
  EXPECT_EQ(bad.count(), 1);
}

TEST(CorpusUnits, small_files_are_grouped_and_come_once) {
  const TempFolder folder;
  std::vector<std::string> files;
  std::vector<CorpusUnit> units;
  for (int i = 0; i < 100; ++i) {
    const bool is_large = i == 40;
    files.push_back(folder.write(cat("f", 100 + i, ".txt"),
                                 cat(std::string(is_large ? 2'000'000 : 100'000, 'x'), "\n")));
    for (const CorpusUnit& unit : units_of(DataFormat::text, files, i)) units.push_back(unit);
  }
  const auto groups = group_small_files(units);
  EXPECT_EQ(groups.size(), 4u);  // 40 files, a large one, 41 of 4 MiB, the rest
  std::int64_t next = 0;
  for (const CorpusUnit& group : groups) {
    EXPECT_EQ(group.file, next);
    EXPECT_LE(group.bytes, 4 << 20);
    next += group.files;
  }
  EXPECT_EQ(next, 100);
  const auto again = units_from_text(to_text(groups));
  ASSERT_EQ(again.size(), groups.size());
  EXPECT_EQ(again[2].files, groups[2].files);
  EXPECT_EQ(again[2].bytes, groups[2].bytes);
}

}  // namespace
}  // namespace koios
