// A dataset cut into units of work: all documents once, whatever is wrong with the end of a file.
#include "data/corpus_units.hpp"

#include "packing_tools.hpp"

namespace koios {
namespace {

using testing::shell;
using testing::TempFolder;
using testing::user_error;

/// The first letters of the documents that all units of a file hold, in order.
std::string first_letters(DataFormat format, const std::string& path, BadData* bad) {
  std::string letters;
  for (const CorpusUnit& unit : cut_file(format, {path}, 0, bad)) {
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
  EXPECT_GT(cut_file(DataFormat::jsonl, {plain}, 0).size(), 1u);
  EXPECT_EQ(first_letters(DataFormat::jsonl, plain, nullptr), "abcdefghij");
  // Of what is packed, whatever its name, no part can be read without all before it.
  shell(folder, "tar -cf misnamed.jsonl a.jsonl");
  EXPECT_EQ(cut_file(DataFormat::jsonl, {folder.path("misnamed.jsonl")}, 0).size(), 1u);
  EXPECT_EQ(first_letters(DataFormat::jsonl, folder.path("misnamed.jsonl"), nullptr), "abcdefghij");
}

TEST(CorpusUnits, of_a_file_that_breaks_off_go_as_far_as_it_does_and_tell_it_once) {
  const TempFolder folder;
  const std::string object =
      cat(R"({"instruction": ")", std::string(9'000'000, 'x'), R"(", "input": "", "output": ""})");
  std::string array = "[" + object;
  for (int i = 1; i < 9; ++i) array += "," + object;
  const auto file = folder.write("a.json", array.substr(0, array.size() - 5));
  EXPECT_CONTAINS(user_error([&] { cut_file(DataFormat::alpaca, {file}, 0); }), "the file ends");
  BadData bad(BadData::Policy::skip);
  EXPECT_EQ(first_letters(DataFormat::alpaca, file, &bad), "BBBBBBBB");
  EXPECT_EQ(bad.count(), 1);
}

}  // namespace
}  // namespace koios
