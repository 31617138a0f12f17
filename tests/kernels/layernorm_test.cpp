#include "kernels/layernorm.hpp"

#include <gtest/gtest.h>

#include "kernels/rmsnorm.hpp"
#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"
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
// As for rmsnorm: odd sizes and pitches, and each way in which CUDA holds a row.
constexpr Dims kDims[] = {{1, 8, 0},    {3, 96, 8},   {5, 97, 0},    {300, 64, 0},  {6, 1000, 8},
                          {9, 4096, 0}, {3, 8192, 0}, {2, 16384, 0}, {2, 20008, 0}, {70, 20, 0}};

/// float32 operations in a row: the longest chain of a sum over D or N, and ten besides.
double steps(std::int64_t size) { return static_cast<double>(size) / 4 + 10; }

/// Rows that have a mean, so that a forgotten one shows.
template <class T>
std::vector<double> shifted_values(std::int64_t size, int seed) {
  std::vector<double> x = random_values<T>(size, seed);
  for (double& v : x) v = static_cast<float>(T(static_cast<float>(v + 0.5)));
  return x;
}

template <class Case>
class LayerNorm : public test::KernelTest<Case> {};
TYPED_TEST_SUITE(LayerNorm, test::Cases, test::CaseName);

/// With a weight, and without (np_layernorm): f(weight as a vector, the kernel's argument).
template <class T, class F>
void with_and_without_weight(Stream& stream, std::int64_t D, F f) {
  const auto w = random_values<T>(D, 2);
  DeviceVector<T> w_D(stream, w);
  {
    SCOPED_TRACE("weight");
    f(w, w_D.cref());
  }
  SCOPED_TRACE("no weight");
  f(std::vector<double>(static_cast<std::size_t>(D), 1.0), Ref<const T, 1>{});
}

TYPED_TEST(LayerNorm, forward_matches_reference) {
  using T = typename TypeParam::T;
  for (const auto [N, D, gap] : kDims) {
    SCOPED_TRACE(cat(N, "x", D, "+", gap));
    const auto x = shifted_values<T>(N * D, 1), residual = random_values<T>(N * D, 3);
    std::vector<double> sum(x.size());
    for (std::size_t k = 0; k < x.size(); ++k) {
      sum[k] = static_cast<float>(T(static_cast<float>(x[k]) + static_cast<float>(residual[k])));
    }
    const auto check = [&](const auto& w, Ref<const T, 1> w_D) {
      DeviceMatrix<T> x_ND(this->stream, N, D, gap, x), y_ND(this->stream, N, D, gap);
      DeviceMatrix<T> residual_ND(this->stream, N, D, 0, residual), sum_ND(this->stream, N, D);
      DeviceVector<float> mean_N(this->stream, N), rstd_N(this->stream, N);
      layernorm_forward<T>(this->stream, y_ND.ref(), mean_N.ref(), rstd_N.ref(), x_ND.cref(), w_D,
                           kEps);
      const auto expected = reference::layernorm(x, w, kEps);
      expect_close<T>(y_ND.read(), expected.y, steps(D));
      expect_close<float>(mean_N.read(), expected.mean, steps(D));
      expect_close<float>(rstd_N.read(), Expected::relative(expected.rstd), steps(D));

      add_layernorm_forward<T>(this->stream, sum_ND.ref(), y_ND.ref(), mean_N.ref(), rstd_N.ref(),
                               x_ND.cref(), residual_ND.cref(), w_D, kEps);
      const auto added = reference::layernorm(sum, w, kEps);
      EXPECT_EQ(sum_ND.read(), sum);
      expect_close<T>(y_ND.read(), added.y, steps(D));
      const auto first = y_ND.bits();
      // Recomputation forms the norm from the sum: the same bits.
      layernorm_forward<T>(this->stream, y_ND.ref(), mean_N.ref(), rstd_N.ref(), sum_ND.cref(), w_D,
                           kEps);
      EXPECT_TRUE(test::same_bits(y_ND.bits(), first));
    };
    with_and_without_weight<T>(this->stream, D, check);
  }
}

TYPED_TEST(LayerNorm, finds_the_largest_magnitude) {
  using T = typename TypeParam::T;
  Stream& s = this->stream;
  for (const auto [N, D, gap] : kDims) {
    SCOPED_TRACE(cat(N, "x", D, "+", gap));
    const DeviceMatrix<T> x_ND(s, N, D, gap, shifted_values<T>(N * D, 1));
    const DeviceMatrix<T> dy_ND(s, N, D, gap, random_values<T>(N * D, 2));
    const DeviceMatrix<T> y_ND(s, N, D, gap), sum_ND(s, N, D);
    const DeviceVector<float> mean_N(s, N), rstd_N(s, N), dw_D(s, D);
    const DeviceMatrix<float> partial_PD(s, norm_backward_partials(s.backend()), D);
    with_and_without_weight<T>(s, D, [&](const auto&, Ref<const T, 1> w_D) {
      test::expect_amax_of(s, y_ND, [&](Ref<float, 1> amax) {
        layernorm_forward<T>(s, y_ND.ref(), mean_N.ref(), rstd_N.ref(), x_ND.cref(), w_D, kEps,
                             amax);
      });
      test::expect_amax_of(s, y_ND, [&](Ref<float, 1> amax) {
        layernorm_backward<T>(s, y_ND.ref(), dw_D.ref(), partial_PD.ref(), dy_ND.cref(), {},
                              x_ND.cref(), mean_N.cref(), rstd_N.cref(), w_D, Write::overwrite,
                              amax);
      });
      test::expect_amax_of(s, y_ND, [&](Ref<float, 1> amax) {
        add_layernorm_forward<T>(s, sum_ND.ref(), y_ND.ref(), mean_N.ref(), rstd_N.ref(),
                                 x_ND.cref(), dy_ND.cref(), w_D, kEps, amax);
      });
    });
  }
}

TYPED_TEST(LayerNorm, backward_matches_reference) {
  using T = typename TypeParam::T;
  for (const auto [N, D, gap] : kDims) {
    SCOPED_TRACE(cat(N, "x", D, "+", gap));
    const auto dy = random_values<T>(N * D, 1), x = shifted_values<T>(N * D, 4);
    const auto residual = random_values<T>(N * D, 3);
    const auto dw_before = random_values<float>(D, 5);
    const auto check = [&](const auto& w, Ref<const T, 1> w_D) {
      const auto forward = reference::layernorm(x, w, kEps);
      const auto exact = reference::layernorm_backward(dy, x, w, kEps);
      auto dx = exact.dx;
      for (std::size_t k = 0; k < x.size(); ++k) {
        dx.value[k] += residual[k];
        dx.terms[k] += std::abs(residual[k]);
      }
      auto dw = exact.dw;
      for (std::size_t i = 0; i < dw_before.size(); ++i) {
        dw.value[i] += dw_before[i];
        dw.terms[i] += std::abs(dw_before[i]);
      }
      DeviceMatrix<T> dy_ND(this->stream, N, D, gap, dy), x_ND(this->stream, N, D, gap, x);
      DeviceMatrix<T> residual_ND(this->stream, N, D, 0, residual), dx_ND(this->stream, N, D, gap);
      DeviceVector<float> mean_N(this->stream, forward.mean.value);
      DeviceVector<float> rstd_N(this->stream, forward.rstd), dw_D(this->stream, dw_before);
      DeviceMatrix<float> partial_PD(this->stream, norm_backward_partials(this->backend), D);
      const auto backward = [&](Ref<T, 2> out, Ref<const T, 2> dresidual, Write write) {
        layernorm_backward<T>(this->stream, out, dw_D.ref(), partial_PD.ref(), dy_ND.cref(),
                              dresidual, x_ND.cref(), mean_N.cref(), rstd_N.cref(), w_D, write);
      };
      const double dw_steps = static_cast<double>(N) + 10;
      const bool has_weight = w_D.data != nullptr;

      backward(dx_ND.ref(), residual_ND.cref(), Write::accumulate);
      expect_close<T>(dx_ND.read(), dx, steps(D));
      expect_close<float>(dw_D.read(), has_weight ? dw : Expected::relative(dw_before),
                          has_weight ? dw_steps : 0);

      const auto first = dx_ND.read();
      backward(residual_ND.ref(), residual_ND.cref(), Write::overwrite);
      EXPECT_EQ(residual_ND.read(), first) << "in place of dresidual";
      if (has_weight) expect_close<float>(dw_D.read(), exact.dw, dw_steps);

      backward(dy_ND.ref(), {}, Write::overwrite);
      expect_close<T>(dy_ND.read(), exact.dx, steps(D));

      dy_ND.write(dy);
      backward(x_ND.ref(), {}, Write::overwrite);
      expect_close<T>(x_ND.read(), exact.dx, steps(D));
    };
    with_and_without_weight<T>(this->stream, D, check);
  }
}

TEST(LayerNormReference, gradient_is_the_derivative) {
  constexpr std::int64_t N = 3, D = 17;
  const auto x = shifted_values<float>(N * D, 1);
  const auto w = random_values<float>(D, 2), dy = random_values<float>(N * D, 3);
  const auto g = reference::layernorm_backward(dy, x, w, kEps);
  const auto loss_of_x = [&](const auto& v) {
    return test::dot(reference::layernorm(v, w, kEps).y.value, dy);
  };
  const auto loss_of_w = [&](const auto& v) {
    return test::dot(reference::layernorm(x, v, kEps).y.value, dy);
  };
  test::expect_gradient(loss_of_x, x, g.dx.value, 10);
  test::expect_gradient(loss_of_w, w, g.dw.value, 10);
}

}  // namespace
}  // namespace koios
