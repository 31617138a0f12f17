#include "config/mixture.hpp"

#include <gtest/gtest.h>

namespace koios {
namespace {

std::string problem_of(const std::string& text) {
  Mixture ignored;
  return parse_value(text, ignored);
}

TEST(Mixture, parts_with_weights_and_paths_of_any_kind) {
  Mixture parts;
  EXPECT_EQ(parse_value(" tokens:/a/b.tokens:0.7 ,text : C:/notes/*.txt : 3,  c4:data/c4 en:1e-3, ",
                        parts),
            "");
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].dataset, DataFormat::tokens);
  EXPECT_EQ(parts[0].path, "/a/b.tokens");
  EXPECT_EQ(parts[0].weight, 0.7);
  EXPECT_EQ(parts[1].path, "C:/notes/*.txt");
  EXPECT_EQ(parts[1].weight, 3);
  EXPECT_EQ(parts[2].path, "data/c4 en");
  EXPECT_EQ(parts[2].weight, 1e-3);
  EXPECT_EQ(parse_value("  ", parts), "");
  EXPECT_TRUE(parts.empty());
}

TEST(Mixture, a_comma_in_a_path_is_written_with_a_backslash) {
  Mixture parts;
  EXPECT_EQ(parse_value("text:a\\,b/~c$:1,text:d:2", parts), "");
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].path, "a,b/~c$");
  EXPECT_EQ(show_value(parts), "text:a\\,b/~c\\$:1, text:d:2");
  Mixture again;
  EXPECT_EQ(parse_value(show_value(parts), again), "");
  EXPECT_EQ(expand_value(again, [](const std::string&) { return std::nullopt; }), "");
  EXPECT_EQ(again, parts);
}

TEST(Mixture, says_what_is_wrong) {
  const std::string kComma = "a comma in a path is written \\,";
  EXPECT_EQ(problem_of("data/a.txt"), "'data/a.txt' is not DATASET:PATH:WEIGHT");
  EXPECT_EQ(problem_of("text:a.txt"), "'text:a.txt' is not DATASET:PATH:WEIGHT");
  EXPECT_EQ(problem_of("txt:a.txt:1"),
            "'txt' is no dataset; there are: text, jsonl, alpaca, openwebtext, c4, tokens");
  EXPECT_EQ(problem_of("text::1"), "'text::1' has no path");
  for (const char* weight : {"", "0", "-1", "x", "1x", "nan", "inf", "1e7"}) {
    EXPECT_EQ(problem_of(std::string("text:a:1, text:a.txt:") + weight),
              std::string("the weight '") + weight +
                  "' of a.txt is no number above 0 and up to 1e6; " + kComma);
  }
  EXPECT_EQ(problem_of("text:a:1,,text:b:1"), "'' is not DATASET:PATH:WEIGHT; " + kComma);
  EXPECT_EQ(problem_of("text:/data/a,b.txt:1"),
            "'text:/data/a' is not DATASET:PATH:WEIGHT; " + kComma);
}

}  // namespace
}  // namespace koios
