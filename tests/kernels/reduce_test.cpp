#include "kernels/reduce.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"

namespace koios {
namespace {

using test::DeviceVector;
using test::random_values;

template <class Case>
class Reduce : public test::KernelTest<Case> {};
TYPED_TEST_SUITE(Reduce, test::FloatCases, test::CaseName);

// Pieces of at most 64 additions in a lane, 1024 partial sums added in pieces: few roundings.
constexpr double kSteps = 80;

TYPED_TEST(Reduce, sums_match_reference) {
  for (const std::int64_t size : {0, 1, 17, 4095, 4096, 4097, 100003, 5000000}) {
    for (const std::int64_t offset : {0, 1}) {
      SCOPED_TRACE(cat(size, " at ", offset));
      const auto x = random_values<float>(size, 1);
      double sum_x = 0, sum_abs = 0, squares = 0;
      for (const double v : x) {
        sum_x += v;
        sum_abs += std::abs(v);
        squares += v * v;
      }
      auto with_guard = x;  // what lies behind x must not be counted
      with_guard.insert(with_guard.end(), 16, std::nan(""));
      DeviceVector<float> memory(this->stream, with_guard, offset), out(this->stream, {100.0});
      const auto x_dev = slice(memory.cref(), 0, size);
      DeviceVector<float> partials(this->stream, kSumPartials);
      const double u = test::unit_roundoff<float>;

      sum(this->stream, out.ref(), x_dev, partials.ref(), false);
      EXPECT_NEAR(out.read()[0], sum_x, kSteps * u * sum_abs);
      sum(this->stream, out.ref(), x_dev, partials.ref(), true);
      EXPECT_NEAR(out.read()[0], 2 * sum_x, kSteps * u * 2 * sum_abs);

      sum_of_squares(this->stream, out.ref(), x_dev, partials.ref(), false);
      EXPECT_NEAR(out.read()[0], squares, kSteps * u * squares);
      const auto first = out.bits();
      sum_of_squares(this->stream, out.ref(), x_dev, partials.ref(), false);
      EXPECT_TRUE(test::same_bits(out.bits(), first));
      sum_of_squares(this->stream, out.ref(), x_dev, partials.ref(), true);
      EXPECT_NEAR(out.read()[0], 2 * squares, kSteps * u * 2 * squares);
    }
  }
}

TYPED_TEST(Reduce, clip_scale_matches_its_definition) {
  const double inf = std::numeric_limits<double>::infinity();
  struct {
    double norm_squared, max_norm, norm, scale;
  } cases[] = {
      {4, 1, 2, 1 / (2 + 1e-6)}, {0.25, 1, 0.5, 1}, {4, 0, 2, 1}, {4, -1, 2, 1}, {0, 1, 0, 1},
      {inf, 1, inf, 0}};
  for (const auto& c : cases) {
    DeviceVector<float> squared(this->stream, {c.norm_squared}), norm(this->stream, 1);
    DeviceVector<float> scale(this->stream, 1);
    clip_scale(this->stream, norm.ref(), scale.ref(), squared.cref(),
               static_cast<float>(c.max_norm), Nonfinite::skip);
    EXPECT_FLOAT_EQ(norm.read()[0], c.norm);
    EXPECT_FLOAT_EQ(scale.read()[0], c.scale);
  }
  DeviceVector<float> squared(this->stream, {std::nan("")}), norm(this->stream, 1);
  DeviceVector<float> scale(this->stream, 1);
  for (const float max_norm : {1.0F, 0.0F}) {
    clip_scale(this->stream, norm.ref(), scale.ref(), squared.cref(), max_norm, Nonfinite::skip);
    EXPECT_TRUE(std::isnan(norm.read()[0]));
    EXPECT_EQ(scale.read()[0], 0);
    clip_scale(this->stream, norm.ref(), scale.ref(), squared.cref(), max_norm, Nonfinite::apply);
    EXPECT_TRUE(std::isnan(scale.read()[0]));
  }
  DeviceVector<float> infinite(this->stream, {inf});
  clip_scale(this->stream, norm.ref(), scale.ref(), infinite.cref(), 1, Nonfinite::apply);
  EXPECT_GT(scale.read()[0], 0);  // 0 would skip the step
  EXPECT_LT(scale.read()[0], 1e-37);
}

}  // namespace
}  // namespace koios
