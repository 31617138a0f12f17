#include "checkpoint/catalogue.hpp"

#include <gtest/gtest.h>

#include <fstream>

namespace koios {
namespace {

namespace fs = std::filesystem;

class Catalogue : public ::testing::Test {
 protected:
  Catalogue() { fs::create_directories(folder_); }
  ~Catalogue() override { fs::remove_all(folder_); }
  void add(const std::string& name) const { std::ofstream(folder_ / name) << "x"; }
  std::vector<std::int64_t> listed() const {
    std::vector<std::int64_t> steps;
    for (const auto& entry : list_checkpoints(folder_)) steps.push_back(entry.step);
    return steps;
  }

  fs::path folder_ = fs::temp_directory_path() / ("koios-catalogue-" + std::to_string(getpid()));
};

TEST_F(Catalogue, only_complete_names_count_newest_first) {
  for (const char* name : {"step_00000020.h5", "step_00000100.h5", "step_00000003.h5",
                           "step_123456789.h5", "step_00000200.h5.partial",
                           "step_00000300_weights.h5", "step_.h5", "step_1x.h5", "notes.txt"}) {
    add(name);
  }
  EXPECT_EQ(listed(), (std::vector<std::int64_t>{123456789, 100, 20, 3}));
  EXPECT_EQ(checkpoint_path(folder_, 100), folder_ / "step_00000100.h5");
  EXPECT_EQ(weights_path(folder_, 100), folder_ / "step_00000100_weights.h5");
  EXPECT_TRUE(list_checkpoints(folder_ / "nowhere").empty());
}

TEST_F(Catalogue, what_an_interrupted_save_left_goes) {
  for (const char* name : {"step_00000020.h5", "step_00000030.h5.partial", "mine.h5.partial"}) {
    add(name);
  }
  EXPECT_EQ(remove_partial(folder_), std::vector<std::string>{"step_00000030.h5.partial"});
  EXPECT_EQ(listed(), std::vector<std::int64_t>{20});
  EXPECT_TRUE(fs::exists(folder_ / "mine.h5.partial"));
}

std::vector<std::int64_t> gone(std::vector<std::int64_t> newest_first, std::int64_t newest,
                               const Retention& retention) {
  std::vector<CheckpointEntry> entries;
  for (const std::int64_t step : newest_first) entries.push_back({step, ""});
  std::vector<std::int64_t> steps;
  for (const auto& entry : superfluous(entries, newest, retention)) steps.push_back(entry.step);
  return steps;
}

TEST(Retention, the_latest_and_the_multiples_stay) {
  using Steps = std::vector<std::int64_t>;
  EXPECT_EQ(gone({50, 40, 30, 20, 10}, 50, {}), Steps{});
  EXPECT_EQ(gone({50, 40, 30, 20, 10}, 50, {.keep_latest_k = 2}), (Steps{30, 20, 10}));
  EXPECT_EQ(gone({50, 40, 30, 20, 10}, 50, {.keep_latest_k = 1, .keep_every = 20}),
            (Steps{30, 10}));
  EXPECT_EQ(gone({50, 40}, 50, {.keep_latest_k = 5}), Steps{});
}

TEST(Retention, later_steps_of_a_branch_that_was_left_neither_count_nor_go) {
  EXPECT_EQ(gone({90, 80, 50, 40, 30}, 50, {.keep_latest_k = 2}), std::vector<std::int64_t>{30});
}

}  // namespace
}  // namespace koios
