#include "metrics/provenance.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "metrics/build_info.hpp"
#include "tests/metrics/scratch_folder.hpp"

namespace koios {
namespace {

using nlohmann::json;
using namespace koios::test;

Provenance example() {
  Provenance p;
  p.command_line = {"koios", "input/debug.ini", "training/steps=3"};
  p.libraries = {{"Open MPI", "4.1.4"}, {"Kokkos", "4.7.0"}};
  p.hosts = {"n1", "n1", "n2"};
  p.threads_per_rank = 2;
  p.start = std::chrono::system_clock::from_time_t(1000000000);
  return p;
}

TEST(Provenance, tells_what_ran_where_and_how) {
  const ScratchFolder scratch;
  write_provenance(RunFolder(scratch.path()), example());
  const json runs = json::parse(read_text(scratch.path("provenance.json")));
  ASSERT_EQ(runs.size(), 1u);
  const json& run = runs[0];
  EXPECT_EQ(run["run"], 1);
  EXPECT_EQ(run["start_time"], "2001-09-09T01:46:40Z");
  EXPECT_EQ(run["command_line"], (json{"koios", "input/debug.ini", "training/steps=3"}));
  EXPECT_EQ(run["libraries"]["Kokkos"], "4.7.0");
  EXPECT_EQ(run["ranks"], 3);
  EXPECT_EQ(run["threads_per_rank"], 2);
  EXPECT_EQ(run["ranks_by_host"], (json{{"n1", 2}, {"n2", 1}}));
  for (const char* key : {"version", "git_commit", "compiler", "build_type", "backend"}) {
    EXPECT_NE(run[key], "") << key;
  }
}

TEST(Provenance, keeps_earlier_starts) {
  const ScratchFolder scratch;
  for (int start = 0; start < 3; ++start) write_provenance(RunFolder(scratch.path()), example());
  const json runs = json::parse(read_text(scratch.path("provenance.json")));
  ASSERT_EQ(runs.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(runs[i]["run"], i + 1);
  EXPECT_FALSE(std::filesystem::exists(scratch.path("provenance.json.partial")));
}

TEST(Provenance, puts_a_damaged_file_aside) {
  const ScratchFolder scratch;
  append_text(scratch.path("provenance.json"), "[{");
  write_provenance(RunFolder(scratch.path()), example());
  EXPECT_EQ(json::parse(read_text(scratch.path("provenance.json"))).size(), 1u);
  EXPECT_EQ(read_text(scratch.path("provenance.json.unreadable")), "[{");
}

TEST(Provenance, names_what_is_in_its_place) {
  const ScratchFolder scratch;
  std::filesystem::create_directory(scratch.path("provenance.json"));
  const auto message =
      message_of<UserError>([&] { write_provenance(RunFolder(scratch.path()), example()); });
  EXPECT_THAT(message, testing::HasSubstr("provenance.json is a folder"));
  EXPECT_FALSE(std::filesystem::exists(scratch.path("provenance.json.partial")));
}

TEST(Provenance, takes_command_lines_that_are_not_utf8) {
  const ScratchFolder scratch;
  Provenance p = example();
  p.command_line.push_back("job/description=\xff");
  write_provenance(RunFolder(scratch.path()), p);
  EXPECT_TRUE(json::accept(read_text(scratch.path("provenance.json"))));
}

TEST(BuildInfo, knows_its_compiler) {
  EXPECT_THAT(build_info::compiler(), testing::MatchesRegex("[A-Za-z]+ [0-9.]+"));
}

}  // namespace
}  // namespace koios
