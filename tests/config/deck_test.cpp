// The form of a deck: what inih gets wrong and our reader must not.
#include "config/deck.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/error.hpp"

namespace koios {
namespace {

/// "x.ini:2: [a] k = v" for each entry, so that a test reads as a deck.
std::string entries_of(const Deck& deck) {
  std::string text;
  for (const DeckEntry& e : deck.entries) {
    text += cat(e.origin.text, ": [", e.section, "] ", e.key, " = ", e.value, "\n");
  }
  return text;
}

std::string errors_of(std::string_view text) {
  return to_string(parse_deck(text, "x.ini").errors.told());
}

TEST(Deck, entries_know_their_line) {
  const Deck deck = parse_deck(
      "# a comment line, [not] = a key\n"
      "; another\n"
      "\n"
      "[training]\n"
      "steps=10\n"
      "seq_len  =  256   # tokens\n"
      "   # an indented comment is none of inih's business\n"
      "[data]  ; of the deck\n"
      "path = a#b;c d\n"
      "empty =\n"
      "last = 1",
      "x.ini");
  EXPECT_EQ(to_string(deck.errors.told()), "");
  EXPECT_EQ(entries_of(deck),
            "x.ini:5: [training] steps = 10\n"
            "x.ini:6: [training] seq_len = 256\n"
            "x.ini:9: [data] path = a#b;c d\n"
            "x.ini:10: [data] empty = \n"
            "x.ini:11: [data] last = 1\n");
}

TEST(Deck, takes_windows_line_ends_and_a_byte_order_mark) {
  const Deck deck = parse_deck("\xEF\xBB\xBF[a]\r\nk = 1\r\n\r\nl = 2\r\n", "x.ini");
  EXPECT_EQ(to_string(deck.errors.told()), "");
  EXPECT_EQ(entries_of(deck), "x.ini:2: [a] k = 1\nx.ini:4: [a] l = 2\n");
}

TEST(Deck, an_empty_text_is_an_empty_deck) {
  for (const char* text : {"", "\n", "# nothing\n", "   \n\t\n"}) {
    const Deck deck = parse_deck(text, "x.ini");
    EXPECT_TRUE(deck.entries.empty() && deck.errors.told().empty()) << text;
  }
}

TEST(Deck, every_wrong_line_is_reported) {
  EXPECT_EQ(
      errors_of("k = 1\n"
                "[a]\n"
                "just words\n"
                "  k = 2\n"
                "= 3\n"
                "[b\n"
                "in_a_broken_section = 4\n"
                "[c] d\n"
                "[d]\n"
                "more words\n"
                "k = 5\n"
                "k = 6\n"
                "k = 7\n"),
      "error: x.ini:1: \"k\" stands before the first [section]\n"
      "error: x.ini:3: \"just words\" is not \"key = value\"\n"
      "error: x.ini:4: \"k = 2\" is indented; every line of a deck starts at its first column\n"
      "error: x.ini:5: the key is missing before \"=\"\n"
      "error: x.ini:6: \"[b\" is not a section header; expected [section]\n"
      "error: x.ini:8: \"[c] d\" is not a section header; expected [section]\n"
      "error: x.ini:10: \"more words\" is not \"key = value\"\n"
      "error: x.ini:12: [d] k is given twice, first at x.ini:11\n"
      "error: x.ini:13: [d] k is given twice, first at x.ini:11\n");
}

TEST(Deck, a_section_may_be_opened_again) {
  EXPECT_EQ(errors_of("[a]\nk = 1\n[b]\nk = 1\n[a]\nl = 1\n"), "");
  EXPECT_EQ(errors_of("[a]\nk = 1\n[b]\nk = 1\n[a]\nk = 1\n"),
            "error: x.ini:6: [a] k is given twice, first at x.ini:2\n");
}

// inih's own limit is 198 characters; folders on clusters have long names.
TEST(Deck, values_may_be_long) {
  for (const std::size_t length : {190, 193, 194, 195, 196, 199, 200, 5000}) {
    const std::string value = std::string(length - 3, 'x') + "= y";
    const Deck deck =
        parse_deck("[a]\nk = " + value + "   # " + std::string(500, '-') + "\nl = 1\n", "x.ini");
    EXPECT_EQ(to_string(deck.errors.told()), "") << length;
    ASSERT_EQ(deck.entries.size(), 2U) << length;
    EXPECT_EQ(deck.entries[0].value, value);
    EXPECT_EQ(deck.entries[1].value, "1");
    EXPECT_EQ(deck.entries[1].origin.text, "x.ini:3");
    EXPECT_EQ(parse_overrides({"a/k=" + value}).entries.at(0).value, value);
  }
  const std::string words(300, 'w');
  EXPECT_EQ(errors_of("[a]\n" + words + "\n" + words + " = 1\nwords\n"),
            "error: x.ini:2: the line has no \"=\" in its first 198 characters\n"
            "error: x.ini:3: the line has no \"=\" in its first 198 characters\n"
            "error: x.ini:4: \"words\" is not \"key = value\"\n");
}

TEST(Deck, values_in_quotes_are_refused) {
  EXPECT_EQ(errors_of("[a]\nk = \"x\"\nl = ''\nm = it's\nn = \"\n"),
            "error: x.ini:2: [a] k: values stand without quotes, not as \"x\"\n"
            "error: x.ini:3: [a] l: values stand without quotes, not as ''\n");
  EXPECT_EQ(to_string(parse_overrides({"a/k='x'"}).errors.told()),
            "error: command line: [a] k: values stand without quotes, not as 'x'\n");
}

TEST(Deck, a_binary_file_is_not_a_deck) {
  EXPECT_EQ(errors_of(std::string_view("[a]\nk = 1\0\n", 11)),
            "error: x.ini:2: the line holds a control character; is this a deck?\n");
}

TEST(Overrides, both_spellings) {
  const Deck deck = parse_overrides(
      {"training/seq_len=128", "training.steps = 5", "a/b=c=d/e.f", "checkpoint/folder="});
  EXPECT_EQ(to_string(deck.errors.told()), "");
  EXPECT_EQ(entries_of(deck),
            "command line: [training] seq_len = 128\n"
            "command line: [training] steps = 5\n"
            "command line: [a] b = c=d/e.f\n"
            "command line: [checkpoint] folder = \n");
}

TEST(Overrides, wrong_ones_are_errors) {
  const Deck deck = parse_overrides(
      {"steps=5", "training/steps", "training/steps=1", "job/description=a #b", "/=", "x/y=a\nb"});
  EXPECT_EQ(
      to_string(deck.errors.told()),
      "error: command line: \"steps=5\" is not section/key=value\n"
      "error: command line: \"training/steps\" is not section/key=value\n"
      "error: command line: \"/=\" is not section/key=value\n"
      "error: command line: [job] description: the value holds \" #\" or \" ;\", which starts "
      "a comment in a deck\n"
      "error: command line: [x] y: the value holds a control character\n");
}

TEST(Overrides, the_last_of_a_key_counts) {
  const Deck deck = parse_overrides({"a/k=1", "b/k=\"quoted\"", "a.k=2", "b/k=5", "a/k=3"});
  EXPECT_EQ(to_string(deck.errors.told()), "");
  EXPECT_EQ(entries_of(deck),
            "command line, the last of 2 times: [b] k = 5\n"
            "command line, the last of 3 times: [a] k = 3\n");
}

TEST(Deck, what_is_not_utf8_is_refused_with_its_key) {
  const std::string reason =
      "byte 4 of the value (0xe9) is not UTF-8, so that it could not be saved with the run; "
      "convert the deck (iconv -f latin1 -t utf-8), or rename the file or folder if that is its "
      "name\n";
  EXPECT_EQ(errors_of("# caf\xE9\n[a]\nk = caf\xE9  # caf\xE9\n"),
            "error: x.ini:3: [a] k: " + reason);
  EXPECT_EQ(to_string(parse_overrides({"a/k=caf\xE9"}).errors.told()),
            "error: command line: [a] k: " + reason);
  EXPECT_EQ(errors_of("[a]\nk = caf\xC3\xA9\n"), "");
  EXPECT_EQ(errors_of("[a]\nk = \xC2\x9B"
                      "2J\n"),  // what some terminals take for ESC [
            "error: x.ini:2: the line holds a control character; is this a deck?\n");
}

TEST(Deck, of_very_many_wrong_lines_the_first_are_told) {
  std::string text = "[a]\n";
  for (int i = 0; i < 1000; ++i) text += "wrong\n";
  const Deck deck = parse_deck(text, "x.ini");
  EXPECT_EQ(deck.errors.told().size(), DeckErrors::kMost);
  EXPECT_EQ(deck.errors.untold(), 950);
}

TEST(Deck, of_a_very_long_wrong_line_the_first_is_told) {
  const Deck deck = parse_deck("[a]\n" + std::string(900000, '['), "x.ini");
  ASSERT_EQ(deck.errors.told().size(), 1u);
  EXPECT_EQ(deck.errors.told()[0].message,
            cat('"', std::string(100, '['), "...\" is not a section header; expected [section]"));
}

TEST(DeckFile, is_read_or_the_reason_given) {
  const std::filesystem::path folder = testing::TempDir();
  const std::string path = (folder / "koios_deck_test.ini").string();
  std::ofstream(path) << "[a]\nk = 1\n";
  EXPECT_EQ(read_deck_file(path), "[a]\nk = 1\n");

  const auto message_of = [](const std::string& name) -> std::string {
    try {
      read_deck_file(name);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  for (const char* text : {"", "\n \n"}) {
    std::ofstream(path) << text;
    EXPECT_EQ(message_of(path), cat("cannot read the deck ", path, ": it is empty"));
  }
  std::filesystem::remove(path);
  EXPECT_EQ(message_of(path), cat("cannot read the deck ", path, ": No such file or directory"));
  EXPECT_EQ(message_of(folder.string()),
            cat("cannot read the deck ", folder.string(), ": it is a folder"));
}

}  // namespace
}  // namespace koios
