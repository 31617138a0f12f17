#include "core/random.hpp"

#include <gtest/gtest.h>

#include "kernels/elementwise.hpp"
#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"

namespace koios {
namespace {

using test::DeviceVector;

// The known answers of Random123's kat_vectors for philox4x32 with 10 rounds.
TEST(Philox, matches_known_answers) {
  struct {
    std::uint64_t key, low, high;
    std::uint32_t word[4];
  } cases[] = {
      {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {~0ULL, ~0ULL, ~0ULL, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822,
       0x85a308d3243f6a88,
       0x0370734413198a2e,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const auto& c : cases) {
    const Philox4 got = philox(c.key, c.low, c.high);
    for (int k = 0; k < 4; ++k) EXPECT_EQ(got.word[k], c.word[k]);
  }
}

// Wichura 1988, section 3, and tables of the normal distribution.
TEST(NormalQuantile, matches_known_values) {
  struct {
    double p, x;
  } cases[] = {{0.5, 0},
               {0.25, -0.6744897501960817},
               {0.001, -3.090232306167814},
               {1e-20, -9.262340089798408},
               {0.975, 1.959963984540054},
               {0.9, 1.2815515655446004}};
  for (const auto& c : cases) EXPECT_NEAR(normal_quantile(c.p), c.x, 4e-15 * std::abs(c.x));
}

TEST(NormalQuantile, inverts_the_distribution) {
  // From the far tail to the middle, through both changes of formula (0.075 and exp(-25)).
  for (double p = 1e-300; p < 0.5; p *= 1.37) {
    const double x = normal_quantile(p);
    // d log p / d x is about -x in the tail, so p is good to |x| times the error of x.
    EXPECT_NEAR(0.5 * std::erfc(-x / std::sqrt(2.0)) / p, 1, 1e-14 * (1 + x * x)) << p;
  }
}

TEST(UniformOpen, stays_inside_the_interval) {
  EXPECT_EQ(uniform_open(0, 0), 0x1p-53);
  EXPECT_EQ(uniform_open(0xffffffff, 0xffffffff), 1 - 0x1p-53);
  EXPECT_TRUE(std::isfinite(normal_quantile(uniform_open(0, 0))));
  EXPECT_TRUE(std::isfinite(normal_quantile(uniform_open(0xffffffff, 0xffffffff))));
}

TEST(Bf16Randomly, has_the_mean_of_the_value_and_one_of_two_neighbours) {
  // All 2^16 draws: the mean is exact.
  for (const float value : {1.0F, 1.00001F, 1.99999F, -3.14159F, 0.1F, -1e-30F, 3e38F, 1e-39F,
                            1e-45F, 0.0F, 65535.4F}) {
    const float below = bf16::randomly(value, 0).operator float();
    double sum = 0;
    float last = below;
    for (std::uint32_t draw = 0; draw < 0x10000; ++draw) {
      const float got = bf16::randomly(value, draw | 0xabcd0000U).operator float();
      ASSERT_TRUE(std::abs(got) >= std::abs(last)) << draw;
      sum += got;
      last = got;
    }
    EXPECT_EQ(sum / 0x10000, static_cast<double>(value));
    EXPECT_LE(std::abs(below), std::abs(value));
    EXPECT_GE(std::abs(last), std::abs(value));
    EXPECT_LE(std::abs(last - below), 0x1p-7F * std::abs(value) + 0x1p-133F);
  }
}

TEST(Bf16Randomly, keeps_what_is_no_number_and_makes_no_infinity) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const std::uint32_t draw : {0U, 1U, 0x7fffU, 0x8000U, 0xffffU}) {
    for (const float sign : {1.0F, -1.0F}) {
      EXPECT_EQ(bf16::randomly(sign * kInf, draw).operator float(), sign * kInf);
      const float largest = bf16::randomly(sign * 3.4028235e38F, draw).operator float();
      EXPECT_EQ(largest, sign * 0x1.FEp127F) << draw;
      for (const std::uint32_t bits : {0x7f800001U, 0x7fffffffU, 0xffffffffU, 0xff80ffffU}) {
        EXPECT_TRUE(
            std::isnan(bf16::randomly(__builtin_bit_cast(float, bits), draw).operator float()));
      }
    }
  }
}

TEST(ElementDraws, are_those_of_their_quad_and_look_random) {
  const std::uint64_t key = key_of_step(5, 9);
  double mean = 0, both = 0;
  constexpr int kCount = 1 << 16;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const std::uint32_t draw = element_draw(key, 11, i);
    ASSERT_EQ(draw, element_draws(key, 11, i / 4).word[i % 4]);
    const double low = (draw & 0xffffU) / 65536.0, high = (draw >> 16) / 65536.0;
    mean += (low + high) / 2 / kCount;
    both += (low - 0.5) * (high - 0.5) / kCount;
  }
  EXPECT_NEAR(mean, 0.5, 4 * 0.204 / 256);  // standard deviations: sqrt(1/24), 1/12
  EXPECT_NEAR(both, 0, 4 * 0.0834 / 256);
  EXPECT_NE(key_of_step(5, 10), key);
  EXPECT_NE(key_of_step(6, 9), key);
  EXPECT_NE(element_draw(key_of_step(5, 10), 11, 0), element_draw(key, 11, 0));
  EXPECT_NE(element_draw(key, 12, 0), element_draw(key, 11, 0));
}

template <class Case>
class FillNormal : public test::KernelTest<Case> {
 protected:
  static constexpr std::uint64_t kSeed = 0x123456789abcdef0;
  static constexpr std::uint64_t kStream = stream_of("layers.0.attention.wq.weight");

  std::vector<float> fill(std::int64_t size, std::int64_t first, double std, double cut,
                          std::int64_t offset = 0) {
    DeviceVector<float> dst(this->stream, std::vector<double>(size), offset);
    fill_normal(this->stream, dst.ref(), kSeed, kStream, first, std, cut);
    return dst.bits();
  }
};
TYPED_TEST_SUITE(FillNormal, test::FloatCases, test::CaseName);

TYPED_TEST(FillNormal, equals_the_header_bit_for_bit) {
  // This file's normal_at is compiled by the host's compiler without any special option: so the
  // numbers of both backends are the same, and depend on no compiler's choice to fuse.
  for (const double cut : {3.0, 0.5, 1e3}) {
    constexpr std::int64_t kSize = 100003;
    const auto got = this->fill(kSize, 7, 0.02, cut);
    for (std::int64_t i = 0; i < kSize; ++i) {
      const auto want = static_cast<float>(
          0.02 * normal_at(this->kSeed, this->kStream, static_cast<std::uint64_t>(7 + i), cut));
      ASSERT_EQ(got[i], want) << i;
    }
  }
}

TYPED_TEST(FillNormal, pieces_make_up_the_whole) {
  const auto whole = this->fill(1000, 0, 1, 3);
  for (const std::int64_t first : {0, 1, 17, 500}) {
    for (const std::int64_t offset : {0, 1}) {
      const auto piece = this->fill(300, first, 1, 3, offset);
      EXPECT_TRUE(std::equal(piece.begin(), piece.end(), whole.begin() + first));
    }
  }
}

TYPED_TEST(FillNormal, a_range_of_columns_is_that_of_the_whole) {
  constexpr std::int64_t kRows = 23, kCols = 37, kFirst = 5, kHere = 14;
  const auto whole = this->fill(kRows * kCols, 0, 1, 3);
  DeviceVector<float> dst(this->stream, std::vector<double>(kRows * kHere));
  fill_normal(this->stream, make_ref(dst.ref().data, kRows, kHere), this->kSeed, this->kStream,
              kFirst, kCols, 1, 3);
  const auto part = dst.bits();
  for (std::int64_t r = 0; r < kRows; ++r) {
    const auto row = part.begin() + r * kHere;
    EXPECT_TRUE(std::equal(row, row + kHere, whole.begin() + r * kCols + kFirst)) << r;
  }
}

TYPED_TEST(FillNormal, has_the_moments_of_a_truncated_normal) {
  constexpr std::int64_t kSize = 1 << 20;
  const auto x = this->fill(kSize, 0, 1, 3);
  double mean = 0, square = 0, largest = 0;
  for (const double v : x) {
    mean += v / kSize;
    square += v * v / kSize;
    largest = std::max(largest, std::abs(v));
  }
  // Cut at +-3: variance 1 - 6 phi(3) / (2 Phi(3) - 1) = 0.97334. Standard errors 0.001, 0.0013.
  EXPECT_NEAR(mean, 0, 0.005);
  EXPECT_NEAR(square, 0.97334, 0.0065);
  EXPECT_LE(largest, 3);
  EXPECT_GT(largest, 2.99);
}

}  // namespace
}  // namespace koios
