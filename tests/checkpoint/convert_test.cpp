#include "checkpoint/convert.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "checkpoint/checksum.hpp"

namespace koios {
namespace {

TEST(Float16, every_pattern_reads_and_writes_back) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = from_float16(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_GT(bits & 0x7fffU, 0x7c00U);
      EXPECT_TRUE(std::isnan(from_float16(to_float16(value))));
    } else {
      EXPECT_EQ(to_float16(value), bits);
    }
  }
  EXPECT_EQ(from_float16(0x3c00), 1.0F);
  EXPECT_EQ(from_float16(0x0001), 0x1p-24F);
  EXPECT_EQ(from_float16(0x7bff), 65504.0F);
}

TEST(Float16, rounds_to_nearest_even) {
  // Between neighbours a < b of the type: the middle goes to the even one, the rest to the nearer.
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float a = from_float16(static_cast<std::uint16_t>(bits));
    const float b = from_float16(static_cast<std::uint16_t>(bits + 1));
    const float middle = (a + b) / 2;
    EXPECT_EQ(to_float16(middle), bits % 2 == 0 ? bits : bits + 1);
    EXPECT_EQ(to_float16(std::nextafter(middle, 0.0F)), bits);
    EXPECT_EQ(to_float16(std::nextafter(middle, b)), bits + 1);
  }
  EXPECT_EQ(to_float16(65519.99F), 0x7bff);
  EXPECT_EQ(to_float16(65520.0F), 0x7c00);  // infinity
  EXPECT_EQ(to_float16(-std::numeric_limits<float>::infinity()), 0xfc00);
}

/// Straight from docs/checkpoints.md.
std::uint64_t documented_sum(const std::vector<std::uint64_t>& bits, std::uint64_t first) {
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < bits.size(); ++i) {
    std::uint64_t x = (first + i + 1) * 0x9e3779b97f4a7c15ULL + bits[i];
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    sum += x ^ (x >> 31);
  }
  return sum;
}

TEST(Checksum, is_the_documented_one_for_every_size_and_split) {
  const std::vector<std::uint16_t> two = {0, 1, 0xffff, 0x8000};
  const std::vector<std::uint32_t> four = {0, 0xdeadbeef, 7};
  const std::vector<std::uint64_t> eight = {~0ULL, 3};
  EXPECT_EQ(checksum(two.data(), 2, {0, 4}), documented_sum({0, 1, 0xffff, 0x8000}, 0));
  EXPECT_EQ(checksum(four.data(), 4, {5, 3}), documented_sum({0, 0xdeadbeef, 7}, 5));
  EXPECT_EQ(checksum(eight.data(), 8, {0, 2}), documented_sum({~0ULL, 3}, 0));
  EXPECT_EQ(checksum(four.data(), 4, {0, 1}) + checksum(four.data() + 1, 4, {1, 2}),
            checksum(four.data(), 4, {0, 3}));
  EXPECT_EQ(checksum(four.data(), 4, {0, 0}), 0U);
}

}  // namespace
}  // namespace koios
