#include "measure/outliers.hpp"

#include <gtest/gtest.h>

namespace koios {
namespace {

using enum Measurement::Kind;

Measurement rates(std::vector<double> values, std::vector<int> groups = {}) {
  return {.name = "GEMM",
          .unit = "TFLOP/s",
          .bound = 0.8,
          .of_rank = std::move(values),
          .group_of_rank = std::move(groups)};
}

std::vector<std::vector<int>> outliers_of(const Measurement& m) {
  std::vector<std::vector<int>> ranks;
  for (const Outlier& outlier : find_outliers(m)) ranks.push_back(outlier.ranks);
  return ranks;
}

using Ranks = std::vector<std::vector<int>>;

TEST(Outliers, a_slow_rank_is_one_and_a_quick_rank_is_none) {
  EXPECT_EQ(outliers_of(rates({10, 9, 7.9, 11})), (Ranks{{2}}));
  EXPECT_EQ(outliers_of(rates({10, 8.5, 10, 30})), Ranks{});
  EXPECT_EQ(find_outliers(rates({700, 300.4, 700}))[0].text, "300 TFLOP/s where the median is 700");
}

TEST(Outliers, of_two_the_worse_may_be_one) {
  EXPECT_EQ(outliers_of(rates({10, 5})), (Ranks{{1}}));
  EXPECT_EQ(outliers_of(rates({5, 10})), (Ranks{{0}}));
  EXPECT_EQ(outliers_of(rates({10})), Ranks{});
}

TEST(Outliers, the_worst_comes_first) {
  EXPECT_EQ(outliers_of(rates({10, 5, 10, 2, 10})), (Ranks{{3}, {1}}));
}

TEST(Outliers, a_group_is_as_slow_as_its_slowest_rank) {
  EXPECT_EQ(outliers_of(rates({10, 10, 9, 4, 10, 11}, {0, 0, 1, 1, 2, 2})), (Ranks{{2, 3}}));
  EXPECT_EQ(outliers_of(rates({10, 3}, {0, 0})), Ranks{});  // there is no other to compare with
}

TEST(Outliers, clocks_are_compared_with_zero) {
  Measurement clocks{
      .name = "clock", .unit = "ms", .kind = offset, .bound = 100, .of_rank = {0, -5000, 99, 120}};
  EXPECT_EQ(outliers_of(clocks), (Ranks{{1}, {3}}));
  EXPECT_EQ(find_outliers(clocks)[0].text, "-5000 ms, more than 100");
}

TEST(Outliers, one_line_a_measurement) {
  const std::vector<Measurement> all = {rates({10, 9, 4.5, 120}),
                                        rates({3, 3, 2, 2}, {0, 0, 1, 1})};
  EXPECT_EQ(measurement_table(all),
            "what  unit          worst     median       best  worst on\n"
            "GEMM  TFLOP/s       4.500       10.0        120  rank 2\n"
            "GEMM  TFLOP/s       2.000      3.000      3.000  ranks 2, 3");
}

}  // namespace
}  // namespace koios
