#include "comm/rank_order.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/random.hpp"

namespace koios {
namespace {

template <class T>
AnyRef view(std::vector<T>& v) {
  return any(make_ref(v.data(), v.size()));
}

/// (1e8 - 1e8) + 1 = 1, but 1e8 + (-1e8 + 1) = 0 in float: the order is seen in the result.
TEST(RankOrder, sums_from_the_first_rank_on) {
  std::vector<float> a = {1e8F};
  std::vector<float> b = {-1e8F};
  std::vector<float> c = {1.0F};
  std::vector<float> mine(1);
  const std::vector<const void*> ordered = {a.data(), b.data(), c.data()};
  combine_in_rank_order(view(mine), ordered, ReduceOp::sum);
  EXPECT_EQ(mine[0], 1.0F);
  const std::vector<const void*> other = {b.data(), c.data(), a.data()};
  combine_in_rank_order(view(mine), other, ReduceOp::sum);
  EXPECT_EQ(mine[0], 0.0F);
}

TEST(RankOrder, bfloat16_is_summed_in_float_and_rounded_once) {
  // 256 + 1 + 1: rounded at every step 256 + 1 -> 256; in float 258, which bfloat16 holds.
  std::vector<bf16> a = {bf16(256.0F)};
  std::vector<bf16> b = {bf16(1.0F)};
  std::vector<bf16> mine(1);
  const std::vector<const void*> parts = {a.data(), b.data(), b.data()};
  combine_in_rank_order(view(mine), parts, ReduceOp::sum);
  EXPECT_EQ(static_cast<float>(mine[0]), 258.0F);
}

TEST(RankOrder, blocks_and_threads_change_nothing) {
  for (const std::size_t count : {1UL, 2047UL, 2048UL, 2049UL, 200'001UL}) {
    std::vector<std::vector<float>> data(3, std::vector<float>(count));
    std::vector<const void*> parts;
    for (std::size_t r = 0; r < data.size(); ++r) {
      for (std::size_t i = 0; i < count; ++i) {
        data[r][i] = static_cast<float>(normal_at(3, r, i, 9));
      }
      parts.push_back(data[r].data());
    }
    std::vector<float> sum(count);
    std::vector<float> max(count);
    combine_in_rank_order(view(sum), parts, ReduceOp::sum);
    combine_in_rank_order(view(max), parts, ReduceOp::max);
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_EQ(sum[i], data[0][i] + data[1][i] + data[2][i]) << i;
      ASSERT_EQ(max[i], std::max({data[0][i], data[1][i], data[2][i]})) << i;
    }
  }
}

TEST(RankOrder, a_nan_survives) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max}) {
    for (int place = 0; place < 3; ++place) {
      std::vector<std::vector<float>> data(3, std::vector<float>{1.0F});
      data[static_cast<std::size_t>(place)][0] = nan;
      const std::vector<const void*> parts = {data[0].data(), data[1].data(), data[2].data()};
      std::vector<float> mine(1);
      combine_in_rank_order(view(mine), parts, op);
      EXPECT_TRUE(std::isnan(mine[0])) << place;
    }
  }
}

TEST(RankOrder, integers_and_doubles) {
  std::vector<std::int64_t> big = {std::int64_t{1} << 60};
  std::vector<std::int64_t> sum(1);
  const std::vector<const void*> twice = {big.data(), big.data()};
  combine_in_rank_order(view(sum), twice, ReduceOp::sum);
  EXPECT_EQ(sum[0], std::int64_t{1} << 61);
  std::vector<double> small = {1e-300};
  std::vector<double> mine(1);
  const std::vector<const void*> doubles = {small.data(), small.data()};
  combine_in_rank_order(view(mine), doubles, ReduceOp::sum);
  EXPECT_EQ(mine[0], 2e-300);
}

}  // namespace
}  // namespace koios
