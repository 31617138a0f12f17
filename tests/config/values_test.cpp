// Text to values and back.
#include "config/values.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "config/run_config.hpp"

namespace koios {
namespace {

/// The value, or the problem in brackets.
template <class T>
std::string parsed(std::string_view text) {
  T value{};
  const Problem problem = parse_value(text, value);
  return problem.empty() ? show_value(value) : cat("<", problem, ">");
}

TEST(Values, whole_numbers) {
  EXPECT_EQ(parsed<std::int64_t>("-12"), "-12");
  EXPECT_EQ(parsed<std::int64_t>("+12"), "12");
  EXPECT_EQ(parsed<std::int64_t>("9223372036854775807"), "9223372036854775807");
  EXPECT_EQ(parsed<std::int64_t>("9223372036854775808"), "<too large or too small to be held>");
  EXPECT_EQ(parsed<int>("2147483648"), "<too large or too small to be held>");
  EXPECT_EQ(parsed<int>("12x"), "<not a whole number, \"x\" follows the number>");
  EXPECT_EQ(parsed<int>("1e6"), "<not a whole number, \"e6\" follows the number>");
  EXPECT_EQ(parsed<int>("1.5"), "<not a whole number, \".5\" follows the number>");
  EXPECT_EQ(parsed<int>("1 2"), "<not a whole number, \" 2\" follows the number>");
  EXPECT_EQ(parsed<int>("two"), "<not a whole number>");
  EXPECT_EQ(parsed<int>("+-2"), "<not a whole number>");
}

TEST(Values, numbers_return_bit_for_bit) {
  EXPECT_EQ(parsed<double>("8e-4"), "8e-04");
  EXPECT_EQ(parsed<double>(".5"), "0.5");
  EXPECT_EQ(parsed<double>("nan"), "<not a finite number>");
  EXPECT_EQ(parsed<double>("inf"), "<not a finite number>");
  EXPECT_EQ(parsed<double>("1e400"), "<too large or too small to be held>");
  EXPECT_EQ(parsed<double>("3e-4f"), "<not a number, \"f\" follows the number>");
  for (const double value : {1.0 / 3, 8e-4, 1e300, std::numeric_limits<double>::denorm_min()}) {
    double returned = 0;
    EXPECT_EQ(parse_value(show_value(value), returned), "");
    EXPECT_EQ(returned, value);
  }
}

TEST(Values, switches) {
  for (const char* text : {"true", "True", "1", "yes", "on", "ON"}) {
    EXPECT_EQ(parsed<bool>(text), "true") << text;
  }
  for (const char* text : {"false", "FALSE", "0", "no", "off"}) {
    EXPECT_EQ(parsed<bool>(text), "false") << text;
  }
  EXPECT_EQ(parsed<bool>("2"), "<not one of true, false, yes, no, on, off, 1, 0>");
}

TEST(Values, lists) {
  EXPECT_EQ(parsed<std::vector<int>>("0"), "0");
  EXPECT_EQ(parsed<std::vector<int>>("0, 3,5"), "0,3,5");
  EXPECT_EQ(parsed<std::vector<int>>("all"), "<not a list of whole numbers such as 0,3,5>");
  EXPECT_EQ(parsed<RankList>("all"), "all");
  EXPECT_EQ(parsed<RankList>("0, 3,5"), "0,3,5");
  for (const char* text : {"0,", ",", "0 3", "-1", "a"}) {
    EXPECT_EQ(parsed<RankList>(text), "<not a list of whole numbers such as 0,3,5, nor all>")
        << text;
  }
  MetricsConfig metrics;
  EXPECT_TRUE(metrics.shows(0) && !metrics.shows(1));
  metrics.log_ranks = {{}, true};
  EXPECT_TRUE(metrics.shows(7));
}

TEST(Values, names_of_enumerators) {
  EXPECT_EQ(parsed<OptimizerName>("AdamW"), "AdamW");
  EXPECT_EQ(parsed<OptimizerName>("SGD"), "<not one of Adam, AdamW>");
  EXPECT_EQ(to_string(AttentionKind::automatic), "auto");
  EXPECT_EQ(from_string<LrScheduleType>("wsd"), LrScheduleType::wsd);
  EXPECT_EQ(from_string<LrScheduleType>("WSD"), std::nullopt);
}

}  // namespace
}  // namespace koios
