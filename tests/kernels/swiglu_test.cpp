#include "kernels/swiglu.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/fp8_output.hpp"
#include "tests/kernels/reference.hpp"

namespace koios {
namespace {

using test::Cast;
using test::cast_of;
using test::DeviceMatrix;
using test::expect_close;
using test::expect_same;
using test::Expected;
using test::random_values;

struct Dims {
  std::int64_t N, F, gap;
};
constexpr Dims kDims[] = {{1, 1, 0},  {3, 8, 0},    {5, 96, 8},   {4, 97, 0},
                          {7, 97, 3}, {33, 768, 0}, {3, 11008, 0}};

// Gates of +-4 standard deviations of 3 reach 12, where exp is off by 2 + 1.16 * 12 ulp on CUDA.
constexpr double kGateScale = 3;
constexpr double kSteps = 40;

template <class Case>
class SwiGlu : public test::KernelTest<Case> {};
TYPED_TEST_SUITE(SwiGlu, test::Cases, test::CaseName);

TYPED_TEST(SwiGlu, forward_matches_reference) {
  using T = typename TypeParam::T;
  for (const auto [N, F, gap] : kDims) {
    SCOPED_TRACE(cat(N, "x", F, "+", gap));
    const auto gate_up = random_values<T>(N * 2 * F, 1, kGateScale);
    DeviceMatrix<T> gate_up_N2F(this->stream, N, 2 * F, gap, gate_up),
        y_NF(this->stream, N, F, gap);
    swiglu_forward<T>(this->stream, y_NF.ref(), gate_up_N2F.cref());
    expect_close<T>(y_NF.read(), Expected::relative(reference::swiglu(gate_up, F)), kSteps);
  }
}

TYPED_TEST(SwiGlu, backward_matches_reference) {
  using T = typename TypeParam::T;
  for (const auto [N, F, gap] : kDims) {
    SCOPED_TRACE(cat(N, "x", F, "+", gap));
    const auto gate_up = random_values<T>(N * 2 * F, 1, kGateScale);
    const auto dy = random_values<T>(N * F, 2);
    const auto expected = reference::swiglu_backward(dy, gate_up, F);
    DeviceMatrix<T> gate_up_N2F(this->stream, N, 2 * F, gap, gate_up);
    DeviceMatrix<T> d_gate_up_N2F(this->stream, N, 2 * F, gap);
    DeviceMatrix<T> dy_NF(this->stream, N, F, gap, dy);
    swiglu_backward<T>(this->stream, d_gate_up_N2F.ref(), dy_NF.cref(), gate_up_N2F.cref());
    expect_close<T>(d_gate_up_N2F.read(), expected, kSteps);

    swiglu_backward<T>(this->stream, gate_up_N2F.ref(), dy_NF.cref(), gate_up_N2F.cref());
    EXPECT_EQ(gate_up_N2F.read(), d_gate_up_N2F.read()) << "in place";
  }
}

TYPED_TEST(SwiGlu, finds_the_largest_magnitude) {
  using T = typename TypeParam::T;
  Stream& s = this->stream;
  for (const auto [N, F, gap] : kDims) {
    for (const bool with_nan : {false, true}) {
      SCOPED_TRACE(cat(N, "x", F, "+", gap, with_nan ? " with NaN" : ""));
      auto gate_up = random_values<T>(N * 2 * F, 1, kGateScale);
      if (with_nan) gate_up[N * 2 * F - 1] = std::numeric_limits<double>::quiet_NaN();
      const DeviceMatrix<T> gate_up_N2F(s, N, 2 * F, gap, gate_up), y_NF(s, N, F, gap);
      const DeviceMatrix<T> dy_NF(s, N, F, gap, random_values<T>(N * F, 2));
      const DeviceMatrix<T> d_gate_up_N2F(s, N, 2 * F, gap);
      const auto halves = [F = F](const auto& both) {
        return std::pair(column_range(both, 0, F), column_range(both, F, F));
      };
      const auto [gate, up] = halves(gate_up_N2F.cref());
      const auto [d_gate, d_up] = halves(d_gate_up_N2F.ref());
      test::expect_amax_of(s, y_NF, [&, gate = gate, up = up](Ref<float, 1> amax) {
        swiglu_forward<T>(s, y_NF.ref(), gate, up, amax);
      });
      test::expect_amax_of(
          s, d_gate_up_N2F,
          [&, gate = gate, up = up, d_gate = d_gate, d_up = d_up](Ref<float, 1> amax) {
            swiglu_backward<T>(s, d_gate, d_up, dy_NF.cref(), gate, up, amax);
          });
    }
  }
}

/// Whole tiles and parts of them, with and without packs.
constexpr Dims kTiles[] = {{1, 1, 0},     {3, 5, 2},     {128, 64, 0},  {144, 208, 0}, {130, 97, 0},
                           {256, 80, 16}, {300, 272, 0}, {272, 400, 8}, {261, 96, 0}};
const double kInfinity = std::numeric_limits<double>::infinity();
const double kNaN = std::numeric_limits<double>::quiet_NaN();

// The scale of an older amax: half of it, so that much saturates, and twice of it.
TYPED_TEST(SwiGlu, casts_at_once_to_the_bits_of_two_passes) {
  using T = typename TypeParam::T;
  Stream& s = this->stream;
  for (const auto [N, F, gap] : kTiles) {
    for (const bool with_nan : {false, true}) {
      SCOPED_TRACE(cat(N, "x", F, "+", gap, with_nan ? " with NaN" : ""));
      auto gate_up = random_values<T>(N * 2 * F, 1, kGateScale);
      if (with_nan) gate_up[N * 2 * F - 1] = kNaN;
      const DeviceMatrix<T> gate_up_N2F(s, N, 2 * F, gap, gate_up), y_NF(s, N, F, gap);
      const DeviceMatrix<T> dy_NF(s, N, F, gap, random_values<T>(N * F, 2));
      const DeviceMatrix<T> d_gate_up_N2F(s, N, 2 * F, gap);
      const auto gate = column_range(gate_up_N2F.cref(), 0, F);
      const auto up = column_range(gate_up_N2F.cref(), F, F);
      swiglu_forward<T>(s, y_NF.ref(), gate_up_N2F.cref());
      swiglu_backward<T>(s, d_gate_up_N2F.ref(), dy_NF.cref(), gate_up_N2F.cref());
      for (const double bound : {2.0, 40.0}) {
        const auto y = cast_of<fp8_e4m3>(s, y_NF, gap, bound);
        Cast<fp8_e4m3> y_at_once(s, N, F, gap, bound);
        Fp8Output<fp8_e4m3> to = y_at_once.output();
        swiglu_forward_to_fp8<T>(s, to, gate, up);
        expect_same(y_at_once, y);
        if (N * F > 1000 && bound == 2.0) {
          EXPECT_GT(y.counts.read()[0], 0);
        }
        y_at_once.q_KN.write(std::vector<double>(N * F));
        to.q_NK = {};
        swiglu_forward_to_fp8<T>(s, to, gate, up);
        expect_same(y_at_once.q_KN.read(), y.q_KN.read());

        const auto d = cast_of<fp8_e5m2>(s, d_gate_up_N2F, gap, bound);
        Cast<fp8_e5m2> d_at_once(s, N, 2 * F, gap, bound);
        swiglu_backward_to_fp8<T>(s, d_at_once.output(), dy_NF.cref(), gate, up);
        expect_same(d_at_once, d);
      }
    }
  }
}

TYPED_TEST(SwiGlu, infinities_become_nan_when_cast_at_once) {
  using T = typename TypeParam::T;
  Stream& s = this->stream;
  constexpr std::int64_t N = 144, F = 80;
  for (const std::int64_t at : {std::int64_t{0}, 17 * F + 3, N * F - 1}) {
    for (const bool beside_nan : {false, true}) {
      std::vector<double> ones(N * F, 1), dy = ones, up = ones;
      dy[at] = up[at] = -kInfinity;
      if (beside_nan) dy[at ^ 1] = up[at ^ 1] = kNaN;
      const DeviceMatrix<T> gate_NF(s, N, F, 0, ones), up_NF(s, N, F, 0, up), dy_NF(s, N, F, 0, dy);
      const DeviceMatrix<T> ones_NF(s, N, F, 0, ones);
      Cast<fp8_e4m3> y(s, N, F, 0, 1);
      Cast<fp8_e5m2> d(s, N, 2 * F, 0, 1);
      swiglu_forward_to_fp8<T>(s, y.output(), gate_NF.cref(), up_NF.cref());
      swiglu_backward_to_fp8<T>(s, d.output(), dy_NF.cref(), gate_NF.cref(), ones_NF.cref());
      const std::int64_t n = at / F, k = at % F;
      EXPECT_TRUE(std::isnan(y.q_NK.read()[at]));
      EXPECT_TRUE(std::isnan(y.q_KN.read()[k * N + n]));
      for (const std::int64_t half : {std::int64_t{0}, F}) {
        EXPECT_TRUE(std::isnan(d.q_NK.read()[n * 2 * F + half + k]));
        EXPECT_TRUE(std::isnan(d.q_KN.read()[(half + k) * N + n]));
      }
      expect_same(y.amax.read(), {beside_nan ? kNaN : kInfinity});
      expect_same(d.amax.read(), {beside_nan ? kNaN : kInfinity});
      const auto all = y.q_NK.read();
      EXPECT_EQ(std::count_if(all.begin(), all.end(), [](double v) { return std::isnan(v); }),
                beside_nan ? 2 : 1);
    }
  }
}

TYPED_TEST(SwiGlu, extreme_gates_stay_finite) {
  using T = typename TypeParam::T;
  // As many as a pack, so that both kinds of code see them.
  std::vector<double> gate_up;
  for (int k = 0; k < 40; ++k) gate_up.push_back(k % 2 == 0 ? -60.0 - 4 * k : 60.0 + 4 * k);
  for (int k = 0; k < 40; ++k) gate_up.push_back(1);
  DeviceMatrix<T> gate_up_N2F(this->stream, 1, 80, 0, gate_up), y_NF(this->stream, 1, 40);
  swiglu_forward<T>(this->stream, y_NF.ref(), gate_up_N2F.cref());
  const auto y = y_NF.read();
  for (int k = 0; k < 40; ++k) {
    EXPECT_NEAR(y[k], k % 2 == 0 ? 0.0 : gate_up_N2F.read()[k], 1e-20) << gate_up[k];
  }
}

TEST(SwiGluReference, gradient_is_the_derivative) {
  constexpr std::int64_t N = 2, F = 9;
  const auto gate_up = random_values<float>(N * 2 * F, 1), dy = random_values<float>(N * F, 2);
  const auto loss = [&](const auto& v) { return test::dot(reference::swiglu(v, F), dy); };
  test::expect_gradient(loss, gate_up, reference::swiglu_backward(dy, gate_up, F).value, 10);
}

}  // namespace
}  // namespace koios
