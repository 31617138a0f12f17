#include "kernels/rmsnorm.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/fp8_output.hpp"
#include "tests/kernels/reference.hpp"

namespace koios {
namespace {

using test::DeviceMatrix;
using test::DeviceVector;
using test::expect_close;
using test::Expected;
using test::random_values;

constexpr double kEps = 1e-5;

struct Dims {
  std::int64_t N, D, gap;
};
// One element, odd sizes and pitches, and one size for each way that CUDA holds a row: in a warp,
// in a block with 1, 2 and 4 packs a thread, and not at all. More rows than partial sums.
constexpr Dims kDims[] = {{1, 1, 0},    {1, 8, 0},     {3, 96, 8},    {5, 97, 0},   {7, 97, 7},
                          {300, 64, 0}, {33, 256, 0},  {6, 1000, 8},  {9, 4096, 0}, {5, 5120, 16},
                          {3, 8192, 0}, {2, 16384, 0}, {2, 20008, 0}, {70, 20, 0}};

/// float32 operations in a row: the longest chain of a sum over D or N, and ten besides.
double steps(std::int64_t size) { return static_cast<double>(size) / 4 + 10; }

template <class Case>
class RmsNorm : public test::KernelTest<Case> {};
TYPED_TEST_SUITE(RmsNorm, test::Cases, test::CaseName);

TYPED_TEST(RmsNorm, forward_matches_reference) {
  using T = typename TypeParam::T;
  for (const auto [N, D, gap] : kDims) {
    SCOPED_TRACE(cat(N, "x", D, "+", gap));
    const auto x = random_values<T>(N * D, 1), w = random_values<T>(D, 2);
    DeviceMatrix<T> x_ND(this->stream, N, D, gap, x), y_ND(this->stream, N, D, gap);
    DeviceVector<T> w_D(this->stream, w);
    DeviceVector<float> rstd_N(this->stream, N);
    rmsnorm_forward<T>(this->stream, y_ND.ref(), rstd_N.ref(), x_ND.cref(), w_D.cref(), kEps);

    const auto expected = reference::rmsnorm(x, w, kEps);
    expect_close<T>(y_ND.read(), Expected::relative(expected.y), steps(D));
    expect_close<float>(rstd_N.read(), Expected::relative(expected.rstd), steps(D));

    rmsnorm_forward<T>(this->stream, x_ND.ref(), rstd_N.ref(), x_ND.cref(), w_D.cref(), kEps);
    EXPECT_TRUE(test::same_bits(x_ND.bits(), y_ND.bits()) || gap > 0) << "in place";
    EXPECT_EQ(x_ND.read(), y_ND.read()) << "in place";
  }
}

TYPED_TEST(RmsNorm, rounds_before_the_weight_where_asked) {
  using T = typename TypeParam::T;
  constexpr std::int64_t N = 5, D = 200;
  const auto x = random_values<T>(N * D, 1), w = random_values<T>(D, 2);
  DeviceMatrix<T> x_ND(this->stream, N, D, 0, x), y_ND(this->stream, N, D);
  DeviceVector<T> w_D(this->stream, w);
  DeviceVector<float> rstd_N(this->stream, N);
  rmsnorm_forward<T>(this->stream, y_ND.ref(), rstd_N.ref(), x_ND.cref(), w_D.cref(), kEps,
                     NormRounding::twice);
  const auto rstd = rstd_N.read();
  std::vector<double> expected(N * D);
  for (std::int64_t k = 0; k < N * D; ++k) {
    const T scaled(static_cast<float>(x[k]) * static_cast<float>(rstd[k / D]));
    const T product(static_cast<float>(scaled) * static_cast<float>(w[k % D]));
    expected[k] = static_cast<float>(product);
  }
  EXPECT_EQ(y_ND.read(), expected);
}

TYPED_TEST(RmsNorm, add_forward_matches_reference) {
  using T = typename TypeParam::T;
  for (const auto [N, D, gap] : kDims) {
    SCOPED_TRACE(cat(N, "x", D, "+", gap));
    const auto x = random_values<T>(N * D, 1), residual = random_values<T>(N * D, 2);
    const auto w = random_values<T>(D, 3);
    std::vector<double> sum(N * D);
    for (std::int64_t k = 0; k < N * D; ++k) {
      sum[k] = static_cast<float>(T(static_cast<float>(x[k]) + static_cast<float>(residual[k])));
    }
    const auto expected = reference::rmsnorm(sum, w, kEps);

    // Into memory of its own, then in place of either argument.
    for (int in_place = 0; in_place < 3; ++in_place) {
      DeviceMatrix<T> x_ND(this->stream, N, D, gap, x),
          residual_ND(this->stream, N, D, 0, residual);
      DeviceMatrix<T> sum_ND(this->stream, N, D), y_ND(this->stream, N, D, gap);
      const auto& out = in_place == 0 ? sum_ND : in_place == 1 ? x_ND : residual_ND;
      DeviceVector<T> w_D(this->stream, w);
      DeviceVector<float> rstd_N(this->stream, N);
      add_rmsnorm_forward<T>(this->stream, out.ref(), y_ND.ref(), rstd_N.ref(), x_ND.cref(),
                             residual_ND.cref(), w_D.cref(), kEps);
      EXPECT_EQ(out.read(), sum);
      expect_close<T>(y_ND.read(), Expected::relative(expected.y), steps(D));
      expect_close<float>(rstd_N.read(), Expected::relative(expected.rstd), steps(D));
    }
  }
}

TYPED_TEST(RmsNorm, finds_the_largest_magnitude) {
  using T = typename TypeParam::T;
  Stream& s = this->stream;
  for (const auto [N, D, gap] : kDims) {
    for (const bool with_nan : {false, true}) {
      SCOPED_TRACE(cat(N, "x", D, "+", gap, with_nan ? " with NaN" : ""));
      auto x = random_values<T>(N * D, 1);
      if (with_nan) x[N * D - 1] = std::numeric_limits<double>::quiet_NaN();
      const DeviceMatrix<T> x_ND(s, N, D, gap, x), dy_ND(s, N, D, gap, random_values<T>(N * D, 2));
      const DeviceMatrix<T> y_ND(s, N, D, gap), sum_ND(s, N, D);
      const DeviceVector<T> w_D(s, random_values<T>(D, 3));
      const DeviceVector<float> rstd_N(s, N), dw_D(s, D);
      const DeviceMatrix<float> partial_PD(s, norm_backward_partials(s.backend()), D);
      const auto once = NormRounding::once;
      test::expect_amax_of(s, y_ND, [&](Ref<float, 1> amax) {
        rmsnorm_forward<T>(s, y_ND.ref(), rstd_N.ref(), x_ND.cref(), w_D.cref(), kEps, once, amax);
      });
      test::expect_amax_of(s, y_ND, [&](Ref<float, 1> amax) {
        rmsnorm_backward<T>(s, y_ND.ref(), dw_D.ref(), partial_PD.ref(), dy_ND.cref(), {},
                            x_ND.cref(), rstd_N.cref(), w_D.cref(), Write::overwrite, amax);
      });
      test::expect_amax_of(s, y_ND, [&](Ref<float, 1> amax) {
        add_rmsnorm_forward<T>(s, sum_ND.ref(), y_ND.ref(), rstd_N.ref(), x_ND.cref(), dy_ND.cref(),
                               w_D.cref(), kEps, once, amax);
      });
    }
  }
}

TYPED_TEST(RmsNorm, forward_casts_at_once_to_the_values_of_two_passes) {
  using T = typename TypeParam::T;
  Stream& s = this->stream;
  // nvcc forms the same sums of two kernels in its own way, and they may differ in the last bit.
  const double last_bit = s.backend() == Backend::host ? 0 : 2e-7;
  for (const auto [N, D, gap] : kDims) {
    for (const auto rounding : {NormRounding::once, NormRounding::twice}) {
      SCOPED_TRACE(cat(N, "x", D, "+", gap));
      auto x = random_values<T>(N * D, 1);
      if (rounding == NormRounding::twice) x[N * D - 1] = std::numeric_limits<double>::quiet_NaN();
      const DeviceMatrix<T> x_ND(s, N, D, gap, x), y_ND(s, N, D, gap), sum_ND(s, N, D);
      const DeviceMatrix<T> residual_ND(s, N, D, gap, random_values<T>(N * D, 2)),
          again_ND(s, N, D);
      const DeviceVector<T> w_D(s, random_values<T>(D, 3));
      const DeviceVector<float> rstd_N(s, N), rstd_again_N(s, N);
      for (const double bound : {1.0, 20.0}) {  // much saturates, nothing does
        rmsnorm_forward<T>(s, y_ND.ref(), rstd_N.ref(), x_ND.cref(), w_D.cref(), kEps, rounding);
        const test::Cast<fp8_e4m3> plain(s, N, D, gap, bound);
        rmsnorm_forward_to_fp8<T>(s, plain.output(), rstd_again_N.ref(), x_ND.cref(), w_D.cref(),
                                  kEps, rounding);
        test::expect_same(plain, test::cast_of<fp8_e4m3>(s, y_ND, gap, bound), last_bit);
        test::expect_same(rstd_again_N.read(), rstd_N.read(), last_bit);

        add_rmsnorm_forward<T>(s, sum_ND.ref(), y_ND.ref(), rstd_N.ref(), x_ND.cref(),
                               residual_ND.cref(), w_D.cref(), kEps, rounding);
        const test::Cast<fp8_e4m3> added(s, N, D, gap, bound);
        add_rmsnorm_forward_to_fp8<T>(s, again_ND.ref(), added.output(), rstd_again_N.ref(),
                                      x_ND.cref(), residual_ND.cref(), w_D.cref(), kEps, rounding);
        test::expect_same(added, test::cast_of<fp8_e4m3>(s, y_ND, gap, bound), last_bit);
        test::expect_same(again_ND.read(), sum_ND.read());
        test::expect_same(rstd_again_N.read(), rstd_N.read(), last_bit);
      }
    }
  }
}

TYPED_TEST(RmsNorm, infinities_become_nan_when_cast_at_once) {
  using T = typename TypeParam::T;
  constexpr std::int64_t N = 4, D = 48;
  std::vector<double> w(D, 1);
  w[5] = w[40] = std::numeric_limits<double>::infinity();
  const DeviceMatrix<T> x_ND(this->stream, N, D, 0, std::vector<double>(N * D, 1));
  const DeviceVector<T> w_D(this->stream, w);
  const DeviceVector<float> rstd_N(this->stream, N);
  const test::Cast<fp8_e4m3> y(this->stream, N, D, 0, 20);
  rmsnorm_forward_to_fp8<T>(this->stream, y.output(), rstd_N.ref(), x_ND.cref(), w_D.cref(), kEps,
                            NormRounding::once);
  const auto got = y.q_NK.read();
  for (std::int64_t k = 0; k < N * D; ++k) {
    EXPECT_EQ(std::isnan(got[k]), k % D == 5 || k % D == 40) << k;
  }
}

TYPED_TEST(RmsNorm, backward_matches_reference) {
  using T = typename TypeParam::T;
  for (const auto [N, D, gap] : kDims) {
    SCOPED_TRACE(cat(N, "x", D, "+", gap));
    const auto dy = random_values<T>(N * D, 1), x = random_values<T>(N * D, 2);
    const auto residual = random_values<T>(N * D, 3), w = random_values<T>(D, 4);
    const auto dw_before = random_values<float>(D, 5);
    const auto rstd = reference::rmsnorm(x, w, kEps).rstd;
    const auto exact = reference::rmsnorm_backward(dy, x, w, kEps);
    auto dx = exact.dx;
    auto dw_added = exact.dw;
    for (std::int64_t k = 0; k < N * D; ++k) {
      dx.value[k] += residual[k];
      dx.terms[k] += std::abs(residual[k]);
    }
    for (std::int64_t i = 0; i < D; ++i) {
      dw_added.value[i] += dw_before[i];
      dw_added.terms[i] += std::abs(dw_before[i]);
    }

    const std::int64_t parts = norm_backward_partials(this->backend);
    DeviceMatrix<T> dy_ND(this->stream, N, D, gap, dy), x_ND(this->stream, N, D, gap, x);
    DeviceMatrix<T> residual_ND(this->stream, N, D, 0, residual), dx_ND(this->stream, N, D, gap);
    DeviceVector<T> w_D(this->stream, w);
    DeviceVector<float> rstd_N(this->stream, rstd), dw_D(this->stream, dw_before);
    DeviceMatrix<float> partial_PD(this->stream, parts, D);
    const auto backward = [&](Ref<T, 2> out, Ref<const T, 2> dresidual, Write write) {
      rmsnorm_backward<T>(this->stream, out, dw_D.ref(), partial_PD.ref(), dy_ND.cref(), dresidual,
                          x_ND.cref(), rstd_N.cref(), w_D.cref(), write);
    };
    const double dw_steps = static_cast<double>(N) + 10;

    backward(dx_ND.ref(), residual_ND.cref(), Write::accumulate);
    expect_close<T>(dx_ND.read(), dx, steps(D));
    expect_close<float>(dw_D.read(), dw_added, dw_steps);

    const auto first = dx_ND.read();
    backward(residual_ND.ref(), residual_ND.cref(), Write::overwrite);  // the usual residual stream
    EXPECT_EQ(residual_ND.read(), first) << "in place of dresidual";
    expect_close<float>(dw_D.read(), exact.dw, dw_steps);

    backward(dy_ND.ref(), {}, Write::overwrite);
    expect_close<T>(dy_ND.read(), exact.dx, steps(D));
    expect_close<float>(dw_D.read(), exact.dw, dw_steps);

    dy_ND.write(dy);
    backward(x_ND.ref(), {}, Write::overwrite);
    expect_close<T>(x_ND.read(), exact.dx, steps(D));
    expect_close<float>(dw_D.read(), exact.dw, dw_steps);
  }
}

TYPED_TEST(RmsNorm, backward_gives_the_same_bits_again) {
  using T = typename TypeParam::T;
  constexpr std::int64_t N = 1000, D = 256;
  DeviceMatrix<T> dy_ND(this->stream, N, D, 0, random_values<T>(N * D, 1));
  DeviceMatrix<T> x_ND(this->stream, N, D, 0, random_values<T>(N * D, 2));
  DeviceVector<T> w_D(this->stream, random_values<T>(D, 3));
  DeviceVector<float> rstd_N(this->stream, std::vector<double>(N, 1.0));
  DeviceMatrix<float> partial_PD(this->stream, norm_backward_partials(this->backend), D);
  std::vector<float> first;
  for (int run = 0; run < 3; ++run) {
    DeviceMatrix<T> dx_ND(this->stream, N, D);
    DeviceVector<float> dw_D(this->stream, D);
    rmsnorm_backward<T>(this->stream, dx_ND.ref(), dw_D.ref(), partial_PD.ref(), dy_ND.cref(), {},
                        x_ND.cref(), rstd_N.cref(), w_D.cref(), Write::overwrite);
    if (run == 0) first = dw_D.bits();
    EXPECT_TRUE(test::same_bits(dw_D.bits(), first));
  }
  // Each team has rows of its own: one alone would be right too, and many times slower.
  const auto partials = partial_PD.read();
  EXPECT_TRUE(
      std::none_of(partials.begin(), partials.end(), [](double x) { return std::isnan(x); }));
}

TEST(RmsNormReference, gradient_is_the_derivative) {
  constexpr std::int64_t N = 3, D = 17;
  const auto x = random_values<float>(N * D, 1), w = random_values<float>(D, 2);
  const auto dy = random_values<float>(N * D, 3);
  const auto g = reference::rmsnorm_backward(dy, x, w, kEps);
  const auto loss_of_x = [&](const auto& v) {
    return test::dot(reference::rmsnorm(v, w, kEps).y, dy);
  };
  const auto loss_of_w = [&](const auto& v) {
    return test::dot(reference::rmsnorm(x, v, kEps).y, dy);
  };
  test::expect_gradient(loss_of_x, x, g.dx.value, 10);
  test::expect_gradient(loss_of_w, w, g.dw.value, 10);
}

}  // namespace
}  // namespace koios
