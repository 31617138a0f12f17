// JSON of which a few strings are wanted, against a parser that reads all of it.
#include "data/json_scan.hpp"

#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>
#include <random>

namespace koios {
namespace {

constexpr std::array<std::string_view, 1> kText = {"text"};

std::optional<std::vector<std::string>> scan(std::string_view text, std::string& why) {
  return json_strings(text, kText, "line", 0, why);
}

std::string why_not(std::string_view text) {
  std::string why;
  EXPECT_FALSE(scan(text, why)) << text;
  return why;
}

TEST(JsonScan, finds_the_fields_that_are_asked_for) {
  constexpr std::array<std::string_view, 2> kNames = {"b", "a"};
  std::string why;
  const auto found = json_strings(
      R"( {"c": [1, {"a": "no"}], "a": "x\\\"\/\b\f\n\r\t\u00e9\ud83d\ude00", "b": 1, "b": "y"} )",
      kNames, "line", 0, why);
  ASSERT_TRUE(found) << why;
  EXPECT_EQ((*found)[0], "y");
  EXPECT_EQ((*found)[1], "x\\\"/\b\f\n\r\t\xC3\xA9\xF0\x9F\x98\x80");
}

TEST(JsonScan, says_what_is_wrong_and_where) {
  EXPECT_EQ(why_not("{\"text\": \"a"),
            ": not valid JSON at byte 12 of the line: it ends inside of a "
            "string");
  EXPECT_EQ(why_not("{\"text\": tru}"),
            ": not valid JSON at byte 13 of the line: no value begins so");
  EXPECT_EQ(why_not("{\"a\": 1}"), ": no field \"text\"");
  EXPECT_EQ(why_not("{\"text\": [1]}"), ": the field \"text\" is an array, not a string");
  EXPECT_EQ(why_not("7"), ": JSON, but a number, not an object");
  const std::string deep = "{\"a\": " + std::string(600, '[') + std::string(600, ']') + "}";
  EXPECT_EQ(why_not(deep),
            ": not valid JSON at byte 518 of the line: values nested more than 512 "
            "deep");
}

/// Whatever is accepted or refused, both accept and refuse it, and find the same.
TEST(JsonScan, agrees_with_another_parser) {
  const std::string original =
      R"({"text": "a \u00e9\n\ud83d\ude00", "n": [0, -1.5e+3, 12E-2, true, false, null, {}],)"
      R"( "o": {"text": [[]], "x": "\\\""}})";
  constexpr std::string_view kLetters = "{}[]\",:\\u0123456789eE+-. truefalsn\t\x01";
  std::mt19937 random(7);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = original;
    for (auto changes = 1 + random() % 3; changes > 0; --changes) {
      const auto at = random() % text.size();
      const char c = kLetters[random() % kLetters.size()];
      switch (random() % 3) {
        case 0:
          text[at] = c;
          break;
        case 1:
          text.insert(at, 1, c);
          break;
        default:
          text.erase(at, 1 + random() % 3);
          if (text.empty()) text = " ";
      }
    }
    const auto value = nlohmann::json::parse(text, nullptr, false);
    std::string why;
    const auto found = scan(text, why);
    const bool has_text = value.is_object() && value.contains("text") && value["text"].is_string();
    ASSERT_EQ(found.has_value(), has_text) << text << why;
    if (!has_text) continue;
    ++accepted;
    ASSERT_EQ(found->front(), value["text"].get<std::string>()) << text;
  }
  EXPECT_GT(accepted, 1000);
}

}  // namespace
}  // namespace koios
