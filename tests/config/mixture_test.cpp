#include "config/mixture.hpp"

#include <gtest/gtest.h>

namespace koios {
namespace {

TEST(Mixture, parts_with_weights_and_paths_of_any_kind) {
  std::string problem;
  const auto parts = parse_mixture(
      " tokens:/a/b.tokens:0.7 ,text:C:/notes/*.txt:3,  c4:data/c4 en:1e-3, ", problem);
  EXPECT_EQ(problem, "");
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].dataset, DatasetKind::tokens);
  EXPECT_EQ(parts[0].path, "/a/b.tokens");
  EXPECT_EQ(parts[0].weight, 0.7);
  EXPECT_EQ(parts[1].path, "C:/notes/*.txt");
  EXPECT_EQ(parts[2].path, "data/c4 en");
  EXPECT_EQ(parts[2].weight, 1e-3);
  EXPECT_TRUE(parse_mixture("  ", problem).empty());
  EXPECT_EQ(problem, "");
}

TEST(Mixture, says_what_is_wrong) {
  const auto problem = [](const char* text) {
    std::string result;
    parse_mixture(text, result);
    return result;
  };
  EXPECT_EQ(problem("data/a.txt"), "'data/a.txt' is not DATASET:PATH:WEIGHT");
  EXPECT_EQ(problem("text:a.txt"), "'text:a.txt' is not DATASET:PATH:WEIGHT");
  EXPECT_EQ(problem("txt:a.txt:1"),
            "'txt' is no dataset; there are: text, jsonl, alpaca, openwebtext, c4, tokens");
  EXPECT_EQ(problem("text::1"), "'text::1' has no path");
  for (const char* weight : {"", "0", "-1", "x", "1x", "nan", "inf", "1e7"}) {
    EXPECT_EQ(
        problem((std::string("text:a:1, text:a.txt:") + weight).c_str()),
        std::string("the weight '") + weight + "' of a.txt is no number above 0 and up to 1e6");
  }
  EXPECT_EQ(problem("text:a:1,,text:b:1"), "'' is not DATASET:PATH:WEIGHT");
}

}  // namespace
}  // namespace koios
