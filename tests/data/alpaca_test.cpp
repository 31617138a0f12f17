// The array that alpaca is published as, and the prompt its objects are filled into.
#include "packing_tools.hpp"

namespace koios {
namespace {

using testing::all_documents;
using testing::TempFolder;
using testing::user_error;

std::vector<Document> read(const std::string& content, BadData* bad = nullptr) {
  const TempFolder folder;
  return all_documents(
      RecordReader(DataFormat::alpaca, {folder.write("alpaca_data.json", content)}, bad));
}

std::string error(const std::string& content) {
  return user_error([&] { read(content); });
}

constexpr const char* kTwo = R"([
    {
        "instruction": "Name {one} [thing], \"quoted\".",
        "input": "",
        "output": "A stone.\nOr two."
    },
    {
        "instruction": "Double it.",
        "input": "2 \\",
        "output": "4"
    }
]
)";

TEST(Alpaca, fills_the_published_prompt) {
  const auto documents = read(kTwo);
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].text,
            "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\nName {one} [thing], \"quoted\".\n\n"
            "### Response:\nA stone.\nOr two.");
  EXPECT_EQ(documents[1].text,
            "Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\nDouble it.\n\n### Input:\n2 \\\n\n### Response:\n4");
  EXPECT_EQ(documents[0].line, 2);
  EXPECT_EQ(documents[1].line, 7);
}

TEST(Alpaca, on_one_line_empty_and_with_marks) {
  EXPECT_TRUE(read("[]").empty());
  EXPECT_TRUE(read(" [ \n ] ").empty());
  EXPECT_TRUE(read(" \n").empty());
  const TempFolder folder;
  std::string array = "[";
  for (int i = 0; i < 9; ++i) {
    array += cat(i == 0 ? "" : ",", R"({"instruction":"i)", i, R"(","input":"","output":"o"})");
  }
  const auto file = folder.write("a.json", array + "]");
  RecordReader reader(DataFormat::alpaca, {file});
  std::vector<RecordMark> marks = {reader.mark()};
  while (reader.skip()) marks.push_back(reader.mark());
  ASSERT_EQ(marks.size(), 10u);
  for (std::size_t i = 9; i-- > 0;) {
    reader.seek(marks[i]);
    Document d;
    ASSERT_TRUE(reader.next(d));
    EXPECT_CONTAINS(d.text, cat("### Instruction:\ni", i, "\n"));
    EXPECT_EQ(reader.mark(), marks[i + 1]);
  }
}

TEST(Alpaca, bad_objects_are_named_and_can_be_left_out) {
  const std::string content =
      "[\n{\"instruction\": \"a\", \"input\": \"\"},\n"
      "{\"instruction\": \"b\", \"input\": 5, \"output\": \"\"},\n{nonsense},\n"
      "{\"instruction\": \"d\", \"input\": \"\", \"output\": \"fine\"}\n]";
  EXPECT_CONTAINS(error(content), "alpaca_data.json:2: no field \"output\"");
  BadData bad(OnBadData::skip);
  const auto documents = read(content, &bad);
  ASSERT_EQ(documents.size(), 4u);
  EXPECT_TRUE(documents[2].is_bad);
  EXPECT_CONTAINS(documents[3].text, "fine");
  EXPECT_EQ(bad.count(), 3);
}

TEST(Alpaca, records_of_one_line_are_told_by_their_number) {
  const TempFolder folder;
  std::string array = "[";
  for (int i = 0; i < 9; ++i) {
    array += cat(i == 0 ? "" : ",", R"({"instruction":"i)", i, R"(","input":"","output":)",
                 i % 4 == 3 ? "7" : "\"o\"", "}");
  }
  const auto file = folder.write("a.json", array + " {}]");
  BadData bad(OnBadData::skip);
  RecordReader reader(DataFormat::alpaca, {file}, &bad);
  RecordMark middle;
  for (Document d; reader.next(d);) {
    if (reader.mark().record == 5) middle = reader.mark();
  }
  auto news = bad.take_news();
  ASSERT_EQ(news.texts.size(), 3u);
  EXPECT_CONTAINS(news.texts[0], "a number, not a string (record 4 of the file)");
  EXPECT_CONTAINS(news.texts[1], "(record 8 of the file)");
  EXPECT_CONTAINS(news.texts[2], "neither , nor ] after an object (record 9 of the file)");
  BadData again(OnBadData::skip);
  RecordReader resumed(DataFormat::alpaca, {file}, &again);
  resumed.seek(middle);
  for (Document d; resumed.next(d);) {
  }
  EXPECT_CONTAINS(again.take_news().texts.at(0), "(record 8 of the file)");
}

TEST(Alpaca, what_stands_in_an_objects_place_is_one_bad_record) {
  const std::string good = R"({"instruction":"i","input":"","output":"o"})";
  std::string array = "[" + good;
  const std::vector<std::string> others = {
      "null", "\"a ] , { \\\" b\"", "-1.5e3", "[[1, \"]\"], {}]", "nonsense", "\"\""};
  for (const std::string& other : others) array += cat(",\n", other, ",", good);
  const TempFolder folder;
  const auto file = folder.write("a.json", array + "]");
  BadData bad(OnBadData::skip);
  RecordReader reader(DataFormat::alpaca, {file}, &bad);
  int whole = 0;
  for (Document d; reader.next(d);) whole += d.is_bad ? 0 : 1;
  EXPECT_EQ(whole, 7);
  const auto news = bad.take_news();
  ASSERT_EQ(news.texts.size(), others.size());
  for (std::size_t i = 0; i < others.size(); ++i) {
    EXPECT_CONTAINS(news.texts[i], cat("a.json:", i + 2,
                                       ": no JSON object, but another value "
                                       "(record ",
                                       2 * i + 2, " of the file)"));
  }
  EXPECT_CONTAINS(error("[" + good + ",]"), "no JSON object, where one should begin");
}

TEST(Alpaca, what_is_no_such_array) {
  EXPECT_CONTAINS(error("{\"text\": \"a\"}\n"), ":1: not a JSON array");
  const std::string whole = kTwo;
  EXPECT_CONTAINS(error(whole.substr(0, 40)), ":2: the file ends inside of the object");
  EXPECT_CONTAINS(error(whole.substr(0, whole.rfind(']'))), "cut short");
  EXPECT_CONTAINS(error(whole.substr(0, whole.find("    },") + 6)), "cut short");
  EXPECT_CONTAINS(error("[1, 2]"), "no JSON object");
}

}  // namespace
}  // namespace koios
