#include "app/command_line.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace koios {
namespace {

TEST(CommandLine, deck_and_overrides) {
  const CommandLine line = parse_command_line({"a.ini", "training/steps=3", "job.seed=1"});
  EXPECT_EQ(line.action, Action::train);
  EXPECT_EQ(line.deck, "a.ini");
  EXPECT_EQ(line.overrides, (std::vector<std::string>{"training/steps=3", "job.seed=1"}));
  EXPECT_TRUE(parse_command_line({}).deck.empty());
}

TEST(CommandLine, dry_run_for_another_mesh) {
  const CommandLine line = parse_command_line({"--dry-run", "--ranks", "64", "--backend", "cuda"});
  EXPECT_EQ(line.action, Action::dry_run);
  EXPECT_EQ(line.ranks, 64);
  EXPECT_EQ(line.backend, Backend::cuda);
  const CommandLine same = parse_command_line({"--dry-run", "--ranks=64", "--backend=cuda"});
  EXPECT_EQ(same.ranks, 64);
  EXPECT_EQ(same.backend, Backend::cuda);
}

TEST(CommandLine, mistakes_are_refused) {
  EXPECT_THROW(parse_command_line({"--drun"}), UserError);
  EXPECT_THROW(parse_command_line({"a.ini", "b.ini"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--ranks"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--ranks", "4x"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--ranks", "0"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--backend", "gpu"}), UserError);
  EXPECT_THROW(parse_command_line({"a.ini", "--ranks", "4"}), UserError);
  EXPECT_THROW(parse_command_line({""}), UserError);  // koios "$DECK", and DECK is not set
}

}  // namespace
}  // namespace koios
