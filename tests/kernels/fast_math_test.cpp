#include "kernels/detail/fast_math.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/detail/host_simd.hpp"

namespace koios::detail {
namespace {

using Simd = SimdWidth<kSimdFloats>;

float exp_of(float x) { return exp(filled(Simd{}, x)).v[kSimdFloats - 1]; }

TEST(FastMath, exp_is_good_to_two_units_of_the_last_place) {
  // Every 997th float of [-87, 88.37], both signs down to the smallest.
  double worst = 0;
  for (const float end : {-87.0F, 88.37F}) {
    const auto last = __builtin_bit_cast(std::uint32_t, end);
    for (std::uint32_t bits = last & 0x80000000U; bits <= last; bits += 997) {
      const auto x = __builtin_bit_cast(float, bits);
      const double want = std::exp(static_cast<double>(x));
      const double unit = std::ldexp(1.0, std::ilogb(want) - 23);
      worst = std::max(worst, std::abs(exp_of(x) - want) / unit);
    }
  }
  EXPECT_LE(worst, 2);
  RecordProperty("worst_ulp", std::to_string(worst));
}

TEST(FastMath, exp_of_extremes) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_of(0), 1);
  EXPECT_EQ(exp_of(-0.0F), 1);
  EXPECT_LT(exp_of(-inf), 1.7e-38F);
  EXPECT_LT(exp_of(-1e30F), 1.7e-38F);
  EXPECT_EQ(exp_of(inf), inf);
  EXPECT_EQ(exp_of(1e30F), inf);
  EXPECT_EQ(exp_of(89), inf);
  EXPECT_TRUE(std::isnan(exp_of(std::nanf(""))));
}

TEST(FastMath, exp2_of_a_run_that_diverged_is_never_negative) {
  const auto exp2_of = [](float x) { return exp2_nonpositive(broadcast(x))[kLanes - 1]; };
  for (float x = -125.99F; x < 128; x += 0.0137F) {
    ASSERT_NEAR(exp2_of(x) / std::exp2(static_cast<double>(x)), 1, 2e-7) << x;
  }
  const float inf = std::numeric_limits<float>::infinity();
  for (const float x : {128.0F, 128.5F, 200.0F, 255.5F, 384.0F, 1e6F, 3e38F, inf}) {
    EXPECT_EQ(exp2_of(x), inf) << x;
  }
  for (const float x : {-126.01F, -200.0F, -1e30F, -inf}) EXPECT_EQ(exp2_of(x), 0) << x;
  for (const std::uint32_t nan : {0x7fc00000U, 0x7fc00001U, 0x7fc000ffU, 0xffc001ffU}) {
    EXPECT_TRUE(std::isnan(exp2_of(__builtin_bit_cast(float, nan)))) << nan;
  }
}

TEST(FastMath, single_elements_get_the_bits_of_vectors) {
  for (float x = -100; x < 100; x += 0.0137F) {
    ASSERT_EQ(exp(filled(Scalar{}, x)).v[0], exp_of(x)) << x;
    ASSERT_EQ(sigmoid(filled(Scalar{}, x)).v[0], sigmoid(filled(Simd{}, x)).v[0]) << x;
  }
}

}  // namespace
}  // namespace koios::detail
