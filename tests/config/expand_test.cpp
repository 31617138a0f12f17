// Paths as a shell has them, and the texts that give them back.
#include "config/expand.hpp"

#include <gtest/gtest.h>

#include <map>

#include "config/parse_run_config.hpp"

namespace koios {
namespace {

std::optional<std::string> table(const std::string& name) {
  static const std::map<std::string, std::string> values = {
      {"~", "/home/me"}, {"~you", "/home/you"}, {"SCRATCH", "/scratch"},
      {"ODD", "~$X"},    {"LATIN", "caf\xE9"},  {"EMPTY", ""}};
  const auto at = values.find(name);
  return at == values.end() ? std::nullopt : std::optional<std::string>(at->second);
}

/// The path, or the problem in brackets.
std::string expanded(const std::string& text) {
  std::filesystem::path path = text;
  const Problem problem = expand_value(path, table);
  return problem.empty() ? path.string() : cat("<", problem, ">");
}

TEST(Expand, as_a_shell_does) {
  EXPECT_EQ(expanded("~/run"), "/home/me/run");
  EXPECT_EQ(expanded("~"), "/home/me");
  EXPECT_EQ(expanded("~you/run"), "/home/you/run");
  EXPECT_EQ(expanded("a/~/b~"), "a/~/b~");
  EXPECT_EQ(expanded("$SCRATCH/a"), "/scratch/a");
  EXPECT_EQ(expanded("a${SCRATCH}b$EMPTY"), "a/scratchb");
  EXPECT_EQ(expanded("./~/a\\$b\\c"), "./~/a$b\\c");
}

TEST(Expand, what_is_not_known_is_a_problem) {
  EXPECT_EQ(expanded("$NOWHERE/a"), "<the environment variable NOWHERE is not set>");
  EXPECT_EQ(expanded("~nobody"), "<the home folder ~nobody is not known>");
  for (const char* text : {"a$", "$(pwd)", "${SCRATCH", "${}", "$1", "${SCRATCH:-x}"}) {
    EXPECT_EQ(expanded(text).substr(0, 38), "<a $ without the name of a variable: $") << text;
  }
}

TEST(Expand, an_effective_deck_gives_the_same_paths) {
  const ParsedDeck first = parse_run_config(
      "[job]\ndump_folder = $ODD/run\ndescription = 5 $ and ~\n[data]\n"
      "mixture = text:~/a.txt:1, text:$SCRATCH/*.txt:2\n[validation]\ndataset_path = ./~x\\$y\n",
      "x.ini", {"checkpoint/initial_load_path=~you/w.h5"}, table);
  EXPECT_EQ(to_string(first.errors), "");
  EXPECT_EQ(first.config.job.dump_folder, "~$X/run");
  EXPECT_EQ(first.config.job.description, "5 $ and ~");
  EXPECT_EQ(first.config.data.mixture.at(0).path, "/home/me/a.txt");
  EXPECT_EQ(first.config.data.mixture.at(1).path, "/scratch/*.txt");
  EXPECT_EQ(first.config.validation.dataset_path, "./~x$y");
  EXPECT_EQ(first.config.checkpoint.initial_load_path, "/home/you/w.h5");
  const ParsedDeck second = parse_run_config(first.effective, "effective.ini", {}, table);
  EXPECT_EQ(to_string(second.errors), "");
  EXPECT_EQ(second.config.job.dump_folder, "./~$X/run");
  EXPECT_EQ(second.config.data.mixture, first.config.data.mixture);
  EXPECT_EQ(second.config.validation.dataset_path, first.config.validation.dataset_path);
}

TEST(Expand, what_a_variable_holds_must_be_savable) {
  const ParsedDeck parsed = parse_run_config("", "x.ini", {"job/dump_folder=$LATIN"}, table);
  ASSERT_EQ(parsed.errors.size(), 1U);
  EXPECT_EQ(parsed.errors[0].message.substr(0, 57),
            "[job] dump_folder = $LATIN: byte 4 of the value (0xe9) is");
}

}  // namespace
}  // namespace koios
