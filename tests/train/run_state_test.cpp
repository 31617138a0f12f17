#include "train/run_state.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace koios {
namespace {

using testing::HasSubstr;

std::vector<LossRow> rows(const std::vector<double>& losses) {
  std::vector<LossRow> result;
  for (const double loss : losses) {
    result.push_back({static_cast<std::int64_t>(result.size()) + 1, loss, loss});
  }
  return result;
}

TEST(DescribeJump, says_what_lies_above_the_spread) {
  const auto before = rows({2.60, 2.52, 2.58, 2.50, 2.56});
  EXPECT_EQ(describe_jump(before, {6, 2.59, 2.59}), "");
  EXPECT_EQ(describe_jump(before, {6, 2.69, 2.69}), "");
  EXPECT_EQ(describe_jump(before, {6, 1.00, 1.00}), "");
  const std::string text = describe_jump(before, {6, 2.75, 2.75});
  EXPECT_THAT(text, HasSubstr("jumped at the restart: 2.75 up to step 6, but 2.5 to 2.6"));
  EXPECT_NE(describe_jump(before, {6, 11.3, 11.3}), "");
}

TEST(DescribeJump, looks_at_the_last_lines_only) {
  std::vector<double> losses(30, 11.0);
  losses.insert(losses.end(), 20, 3.0);
  EXPECT_NE(describe_jump(rows(losses), {51, 8.0, 8.0}), "");
  EXPECT_EQ(describe_jump(rows(losses), {51, 3.05, 3.05}), "");
}

TEST(DescribeJump, two_lines_are_too_few) {
  EXPECT_EQ(describe_jump(rows({3.0, 3.0}), {3, 9.0, 9.0}), "");
  EXPECT_EQ(describe_jump({}, {1, 9.0, 9.0}), "");
}

}  // namespace
}  // namespace koios
