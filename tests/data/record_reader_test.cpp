// Documents of both formats, places to come back to, and every kind of bad input with its message.
#include "data/record_reader.hpp"

#include <sys/stat.h>

#include "data/dataset_files.hpp"
#include "fixtures.hpp"

namespace koios {
namespace {

using testing::all_documents;
using testing::TempFolder;
using testing::user_error;

std::vector<std::string> texts(DataFormat format, const std::vector<std::string>& files) {
  std::vector<std::string> result;
  for (const Document& d : all_documents(RecordReader(format, files))) result.push_back(d.text);
  return result;
}

std::string read_error(const std::string& content, DataFormat format) {
  const TempFolder folder;
  const std::string file = folder.write("bad", content);
  std::string message = user_error([&] { all_documents(RecordReader(format, {file})); });
  EXPECT_EQ(message.rfind(file + ":", 0), 0u) << message;
  return message.substr(std::min(message.size(), file.size()));
}

TEST(TextRecords, blank_lines_separate_documents) {
  const TempFolder folder;
  const auto file = folder.write("a.txt", "\n\none\ntwo\n \t\n\nthree  \n four\r\nfive\r\n\r\nsix");
  const auto documents = all_documents(RecordReader(DataFormat::text, {file}));
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[0].text, "one\ntwo");
  EXPECT_EQ(documents[1].text, "three  \n four\nfive");
  EXPECT_EQ(documents[2].text, "six");
  EXPECT_EQ(documents[0].line, 3);
  EXPECT_EQ(documents[1].line, 7);
  EXPECT_EQ(documents[2].line, 11);
  EXPECT_EQ(documents[2].file, file);
}

TEST(TextRecords, files_follow_each_other_and_never_join) {
  const TempFolder folder;
  const std::vector<std::string> files = {folder.write("a.txt", "one"), folder.write("b.txt", "\n"),
                                          folder.write("c.txt", ""), folder.write("d.txt", "two")};
  EXPECT_EQ(texts(DataFormat::text, files), (std::vector<std::string>{"one", "two"}));
}

TEST(TextRecords, a_byte_order_mark_is_not_text) {
  const TempFolder folder;
  EXPECT_EQ(texts(DataFormat::text, {folder.write("a.txt", "\xEF\xBB\xBFone\n")}),
            std::vector<std::string>{"one"});
}

TEST(TextRecords, long_runs_end_at_line_ends_and_lose_nothing) {
  std::string content;
  for (int i = 0; i < 20000; ++i) content += cat("line ", i, "\n");
  const TempFolder folder;
  std::string joined;
  for (const auto& text : texts(DataFormat::text, {folder.write("a.txt", content)})) {
    EXPECT_LE(text.size(), 65536u);
    EXPECT_EQ(text.rfind("line ", 0), 0u);
    joined += text + "\n";
  }
  EXPECT_EQ(joined, content);
}

TEST(TextRecords, a_line_longer_than_a_document_is_cut_between_characters) {
  std::string line = "x";  // so that 65536 falls inside of a character
  while (line.size() < 700000) line += "\xE2\x82\xAC";
  const TempFolder folder;
  const auto documents = all_documents(
      RecordReader(DataFormat::text, {folder.write("a.txt", line + "\nnext\n\nlast\n")}));
  ASSERT_EQ(documents.size(), 12u);
  std::string joined;
  for (std::size_t i = 0; i < 11; ++i) {
    joined += documents[i].text;
    EXPECT_EQ(documents[i].line, 1);
  }
  EXPECT_EQ(joined, line + "\nnext");
  EXPECT_EQ(documents[11].line, 4);
}

TEST(JsonRecords, the_field_text_of_each_line) {
  const TempFolder folder;
  const auto file = folder.write(
      "a.jsonl",
      "{\"text\": \"one\\ntwo\", \"url\": 1}\n\n"
      "{\"meta\": {\"text\": 5}, \"text\": \"caf\\u00e9 \xE2\x82\xAC \\ud83d\\ude00\"}\r\n"
      "{\"text\": \"\"}");
  EXPECT_EQ(
      texts(DataFormat::jsonl, {file}),
      (std::vector<std::string>{"one\ntwo", "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", ""}));
}

TEST(JsonRecords, a_line_may_be_longer_than_a_block) {
  const TempFolder folder;
  const std::string text(3000000, 'y');
  const auto file = folder.write("a.jsonl", "{\"text\": \"" + text + "\"}\n{\"text\": \"z\"}\n");
  EXPECT_EQ(texts(DataFormat::jsonl, {file}), (std::vector<std::string>{text, "z"}));
}

TEST(RecordReader, comes_back_to_every_mark) {
  const TempFolder folder;
  for (const auto format : {DataFormat::text, DataFormat::jsonl}) {
    const bool is_text = format == DataFormat::text;
    const auto one = is_text ? std::string("a\n\nb\nc\n\n" + std::string(150000, 'd') + "\n")
                             : testing::numbered_documents(5);
    const std::vector<std::string> files = {folder.write("1", one), folder.write("2", "\n"),
                                            folder.write("3", one)};
    const auto all = texts(format, files);
    RecordReader reader(format, files);
    std::vector<RecordMark> marks = {reader.mark()};
    while (reader.skip()) marks.push_back(reader.mark());
    ASSERT_EQ(marks.size(), all.size() + 1);
    for (std::size_t i = marks.size(); i-- > 0;) {
      reader.seek(marks[i]);
      EXPECT_EQ(reader.mark().record, static_cast<std::int64_t>(i));
      Document document;
      ASSERT_EQ(reader.next(document), i < all.size());
      if (i < all.size()) {
        EXPECT_EQ(document.text, all[i]);
        EXPECT_EQ(reader.mark(), marks[i + 1]);
      }
    }
  }
}

TEST(RecordReader, a_file_that_shrank_is_noticed) {
  const TempFolder folder;
  const auto file = folder.write("a.txt", "one\n\ntwo\n");
  RecordReader reader(DataFormat::text, {file});
  reader.skip();
  const RecordMark mark = reader.mark();
  folder.write("a.txt", "1");
  reader.seek(mark);
  EXPECT_CONTAINS(user_error([&] { reader.skip(); }), "the data has changed");
  EXPECT_CONTAINS(user_error([&] { reader.seek({9, 5, 0, 0}); }), "the data has changed");
}

TEST(BadRecords, text_that_is_not_utf8) {
  EXPECT_EQ(read_error("fine\nok\n\nna\xEFve\n", DataFormat::text),
            ":4: not UTF-8: byte 3 of the line (byte 12 of the file) is 0xef; it may be "
            "Latin-1, which iconv -f latin1 -t utf-8 converts");
  EXPECT_CONTAINS(read_error("it\x92s\n", DataFormat::text),
                  "is 0x92; it may be Windows-1252, which iconv -f cp1252 -t utf-8 converts");
  EXPECT_CONTAINS(read_error(std::string("\xFF\xFEh\0i\0", 6), DataFormat::text),
                  "is 0xff; by its first bytes it is UTF-16, which iconv -f utf-16 -t utf-8");
  EXPECT_CONTAINS(read_error(std::string("\xFF\xFE\0\0h\0\0\0", 8), DataFormat::text),
                  "by its first bytes it is UTF-32, which iconv -f utf-32 -t utf-8");
  for (const char* other :
       {"\xEF\xF0\xE8\xE2\xE5\xF2\n", "caf\xC3\xA9 na\xEFve\n", "\x01\x02\xEF p\n"}) {
    const std::string message = read_error(other, DataFormat::text);
    EXPECT_CONTAINS(message, "not UTF-8");
    EXPECT_EQ(message.find("iconv"), std::string::npos) << message;
  }
  EXPECT_CONTAINS(read_error("{\"text\": \"\xFF\"}\n", DataFormat::jsonl),
                  ":1: not UTF-8: byte 11");
  const std::string broken_off = "whole\nhal" + std::string(9, '\0');
  EXPECT_CONTAINS(read_error(broken_off, DataFormat::text),
                  ":2: not text: byte 4 of the line (byte 10 of the file) is zero");
}

TEST(BadRecords, invalid_json_and_fields) {
  const auto error = [](const std::string& text) { return read_error(text, DataFormat::jsonl); };
  EXPECT_CONTAINS(error("{\"text\": \"a\"}\n{\"text\": \"b\"\n"), ":2: not valid JSON at byte 13");
  EXPECT_CONTAINS(error("{\"text\": \"a\"} {\"text\": \"b\"}"), ":1: not valid JSON at byte 15");
  EXPECT_CONTAINS(error("plain words\n"), ":1: not valid JSON at byte 1");
  EXPECT_CONTAINS(error("{\"text\": \"a\", \"n\": 1e999}\n"),
                  ":1: not valid JSON at byte 20 of the line: a number that no double holds");
  EXPECT_CONTAINS(error("{\"text\": \"\\ud800\"}\n"), ":1: not valid JSON");
  EXPECT_CONTAINS(error("\n{\"body\": \"a\"}\n"), ":2: no field \"text\"");
  EXPECT_CONTAINS(error("{\"text\": 5}\n"), ":1: the field \"text\" is a number, not a string");
  EXPECT_CONTAINS(error("[1, 2]\n"), ":1: JSON, but an array, not an object");
  EXPECT_CONTAINS(error(std::string(100000, '[')), "values nested more than 512 deep");
  EXPECT_LT(error("{\"text\": \"" + std::string(5000, 'x')).size(), 500u);
}

TEST(DatasetFiles, a_file_a_folder_or_a_glob) {
  const TempFolder folder;
  const auto b = folder.write("b.txt", "b");
  const auto a = folder.write("a.txt", "a");
  const auto c = folder.write("c.jsonl", "c");
  const auto d = folder.write("d.json", "d");
  folder.write("README", "not data");
  ::mkdir(folder.path("sub.txt").c_str(), 0700);
  using Files = std::vector<std::string>;
  EXPECT_EQ(find_dataset_files(b, DataFormat::text), Files{b});
  EXPECT_EQ(find_dataset_files(folder.path(), DataFormat::text), (Files{a, b}));
  EXPECT_EQ(find_dataset_files(folder.path(), DataFormat::jsonl), (Files{c, d}));
  EXPECT_EQ(find_dataset_files(folder.path("[ab]*"), DataFormat::jsonl), (Files{a, b}));
}

TEST(DatasetFiles, what_may_be_a_mistake_is_noted_once) {
  const TempFolder folder;
  const auto a = folder.write("a.jsonl", "a");
  const auto packed = folder.write("a.jsonl.gz", "b");
  std::filesystem::create_directories(folder.path("more/deep"));
  std::filesystem::create_directory(folder.path("other"));
  folder.write("more/b.jsonl", "b");
  folder.write("other/README", "not data");
  ASSERT_EQ(::symlink("round.jsonl", folder.path("round.jsonl").c_str()), 0);
  ASSERT_EQ(::symlink("round", folder.path("round").c_str()), 0);
  BadData bad(OnBadData::skip);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(find_dataset_files(folder.path(), DataFormat::jsonl, DataSplit::training, &bad),
              (std::vector<std::string>{a, packed}));
  }
  const BadData::News news = bad.take_news();
  ASSERT_EQ(news.notes.size(), 2u);
  EXPECT_EQ(news.notes[0], folder.path() +
                               ": the files in its subfolders (more) are not read, only "
                               "those directly in it");
  EXPECT_CONTAINS(news.notes[1], ": a.jsonl is there packed and unpacked; both are read");
  ASSERT_EQ(news.texts.size(), 1u);
  EXPECT_CONTAINS(news.texts[0], "round.jsonl: cannot be looked at: Too many levels of symbolic");
}

TEST(DatasetFiles, messages) {
  const TempFolder folder;
  const auto error = [](const std::string& path) {
    return user_error([&] { find_dataset_files(path, DataFormat::text); });
  };
  EXPECT_CONTAINS(error(""), "training/dataset_path");
  EXPECT_EQ(error(folder.path("nothing")), folder.path("nothing") + ": No such file or directory");
  EXPECT_EQ(error(folder.path("*.txt")), folder.path("*.txt") + ": no file fits the pattern");
  EXPECT_CONTAINS(error(folder.path()),
                  "a folder without *.txt (or packed: .gz, .zst, .xz, .tar) for format text");
  EXPECT_EQ(error(folder.write("a.txt", "")), folder.path("a.txt") + ": is empty (0 bytes)");
  if (::geteuid() != 0) {
    const auto secret = folder.write("secret.txt", "x");
    ::chmod(secret.c_str(), 0);
    EXPECT_CONTAINS(error(secret), "may not be read");
  }
}

}  // namespace
}  // namespace koios
