#include "train/slow_rank.hpp"

#include <gtest/gtest.h>

namespace koios {
namespace {

TEST(SlowestRank, IsMeasuredAgainstTheOthersOfItsStage) {
  EXPECT_FALSE(slowest_rank({1.0}, {0}));
  EXPECT_FALSE(slowest_rank({1.0, 5.0}, {0, 1}));  // two stages of one rank each
  const auto of_two = slowest_rank({1.0, 1.5}, {0, 0});
  ASSERT_TRUE(of_two);
  EXPECT_EQ(of_two->rank, 1);
  EXPECT_DOUBLE_EQ(of_two->factor(), 1.5);
  // Stage 1 has more to do, and its rank 5 still more.
  const auto of_six = slowest_rank({1.0, 1.1, 1.0, 4.0, 4.0, 5.0}, {0, 0, 0, 1, 1, 1});
  ASSERT_TRUE(of_six);
  EXPECT_EQ(of_six->rank, 5);
  EXPECT_DOUBLE_EQ(of_six->others_s, 4.0);
}

TEST(SlowRankWatch, SpeaksOfLongStretchesAndNotAllTheTime) {
  SlowRankWatch watch({0, 0, 0});
  const std::vector<double> slow = {1.0, 1.0, 1.4};
  EXPECT_FALSE(watch.add(1, {9.0, 1.0, 1.0}, 9));  // the first step
  const auto add_stretch = [&](const std::vector<double>& own_s) {
    EXPECT_FALSE(watch.add(10, own_s, 1.4));
    return watch.add(10, own_s, 1.4);
  };
  const auto told = add_stretch(slow);
  ASSERT_TRUE(told);
  EXPECT_EQ(told->rank, 2);
  EXPECT_EQ(told->steps, 20);
  EXPECT_NEAR(told->own_s, 1.4, 1e-12);
  EXPECT_NEAR(told->factor(), 1.4, 1e-12);
  for (int i = 1; i < SlowRankWatch::kSilence; ++i) EXPECT_FALSE(add_stretch(slow)) << i;
  EXPECT_TRUE(add_stretch({1.4, 1.0, 1.0}));  // another rank
  EXPECT_TRUE(add_stretch(slow));
}

TEST(SlowRankWatch, IsSilentWhereRanksAreAlikeOrStepsAreShort) {
  SlowRankWatch watch({0, 0});
  EXPECT_FALSE(watch.add(1, {1, 1}, 1));
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(watch.add(1000, {1.0, 1.2}, 1));
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(watch.add(1000, {0.0001, 0.001}, 0.001));  // 3 seconds
}

}  // namespace
}  // namespace koios
