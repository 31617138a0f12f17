#include "kernels/swiglu.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/reference.hpp"

namespace koios {
namespace {

using test::DeviceMatrix;
using test::expect_close;
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
