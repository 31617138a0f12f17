#include "kernels/cross_entropy.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/reference.hpp"

namespace koios {
namespace {

using test::DeviceMatrix;
using test::DeviceVector;
using test::expect_close;
using test::random_values;

struct Dims {
  std::int64_t N, V, gap;
};
// One column, odd sizes and pitches, rows held in registers and (on CUDA) too long for that.
constexpr Dims kDims[] = {{1, 1, 0},     {3, 7, 0},     {5, 509, 0},   {4, 509, 3},
                          {9, 512, 8},   {3, 5000, 0},  {2, 16000, 0}, {3, 32000, 0},
                          {2, 50257, 0}, {2, 128256, 0}};
constexpr double kScale = 1.0 / 1024;  // exact in either type

/// Every fourth token does not count.
std::vector<int> labels_of(const Dims& dims) {
  std::vector<int> label(dims.N);
  for (std::int64_t n = 0; n < dims.N; ++n) {
    label[n] =
        n % 4 == 3 ? -1 : static_cast<int>(mix64(n + 5) % static_cast<std::uint64_t>(dims.V));
  }
  return label;
}

/// Longest chain of additions: V / 16 on the host before pieces are joined, fewer on CUDA, and the
/// exponential's own few ulp.
double steps(std::int64_t V) { return static_cast<double>(V) / 16 + 12; }

template <class Case>
class CrossEntropy : public test::KernelTest<Case> {};
TYPED_TEST_SUITE(CrossEntropy, test::Cases, test::CaseName);

TYPED_TEST(CrossEntropy, loss_and_gradient_match_reference) {
  using T = typename TypeParam::T;
  for (const auto& dims : kDims) {
    const auto [N, V, gap] = dims;
    for (const double spread : {1.0, 8.0}) {  // at the start of training, and sharp distributions
      SCOPED_TRACE(cat(N, "x", V, "+", gap, " spread ", spread));
      const auto logits = random_values<T>(N * V, 1, spread);
      const auto label = labels_of(dims);
      const auto expected = reference::cross_entropy(logits, label, kScale);
      DeviceMatrix<T> logits_NV(this->stream, N, V, gap, logits);
      DeviceVector<std::int32_t> label_N(this->stream, {label.begin(), label.end()});
      DeviceVector<float> loss_N(this->stream, N);
      cross_entropy_forward_backward<T>(this->stream, loss_N.ref(), logits_NV.ref(), label_N.cref(),
                                        static_cast<float>(kScale));
      expect_close<float>(loss_N.read(), expected.loss, steps(V));
      expect_close<T>(logits_NV.read(), expected.gradient, steps(V));
    }
  }
}

TYPED_TEST(CrossEntropy, parts_of_the_vocabulary_make_up_the_whole) {
  using T = typename TypeParam::T;
  for (const auto& dims : kDims) {
    const auto [N, V, gap] = dims;
    if (V < 3) continue;
    SCOPED_TRACE(cat(N, "x", V, "+", gap));
    const auto logits = random_values<T>(N * V, 1, 8.0);
    const auto label = labels_of(dims);
    const auto expected = reference::cross_entropy(logits, label, kScale);
    DeviceVector<std::int32_t> label_N(this->stream, {label.begin(), label.end()});

    // What the ranks do, one after the other: columns [0, cut) and [cut, V).
    const std::int64_t cut = V / 3;
    struct Rank {
      std::int64_t first, columns;
      DeviceMatrix<T> logits_NV;
      DeviceVector<float> max_N, sum_N, target_N;
      SoftmaxParts parts() { return {max_N.ref(), sum_N.ref(), target_N.ref()}; }
    };
    std::vector<Rank> ranks;
    for (const auto& [first, columns] :
         {std::pair{std::int64_t{0}, cut}, std::pair{cut, V - cut}}) {
      std::vector<double> mine;
      for (std::int64_t n = 0; n < N; ++n) {
        const auto row = logits.begin() + n * V + first;
        mine.insert(mine.end(), row, row + columns);
      }
      ranks.push_back({first,
                       columns,
                       {this->stream, N, columns, gap, mine},
                       {this->stream, N},
                       {this->stream, N},
                       {this->stream, N}});
      softmax_parts<T>(this->stream, ranks.back().parts(), ranks.back().logits_NV.cref(),
                       label_N.cref(), first);
    }
    std::vector<double> max(N), sum(N), target(N);
    for (Rank& rank : ranks) {
      const auto other = rank.max_N.read();
      for (std::int64_t n = 0; n < N; ++n) {
        max[n] = rank.first == 0 ? other[n] : std::max(max[n], other[n]);
      }
    }
    DeviceVector<float> max_N(this->stream, max);
    for (Rank& rank : ranks) {
      rescale_parts(this->stream, rank.parts(), max_N.cref());
      const auto its_sum = rank.sum_N.read(), its_target = rank.target_N.read();
      for (std::int64_t n = 0; n < N; ++n) {
        sum[n] += its_sum[n];
        target[n] += its_target[n];
      }
    }
    DeviceVector<float> sum_N(this->stream, sum), target_N(this->stream, target);

    std::vector<double> gradient(N * V);
    for (Rank& rank : ranks) {
      DeviceVector<float> loss_N(this->stream, N);
      cross_entropy_of_parts<T>(this->stream, loss_N.ref(), rank.logits_NV.ref(),
                                {max_N.ref(), sum_N.ref(), target_N.ref()}, label_N.cref(),
                                rank.first, static_cast<float>(kScale));
      expect_close<float>(loss_N.read(), expected.loss, steps(V));
      const auto mine = rank.logits_NV.read();
      for (std::int64_t n = 0; n < N; ++n) {
        std::copy_n(mine.begin() + n * rank.columns, rank.columns,
                    gradient.begin() + n * V + rank.first);
      }
    }
    expect_close<T>(gradient, expected.gradient, steps(V));
  }
}

TYPED_TEST(CrossEntropy, large_logits_do_not_overflow) {
  using T = typename TypeParam::T;
  constexpr std::int64_t V = 600;
  std::vector<double> logits(V);
  for (std::int64_t i = 0; i < V; ++i) logits[i] = i == 411 ? 20000 : -20000 + 64.0 * (i % 300);
  for (std::int64_t i = 0; i < V; ++i)
    logits[i] = static_cast<float>(T(static_cast<float>(logits[i])));
  DeviceMatrix<T> logits_NV(this->stream, 1, V, 0, logits);
  DeviceVector<std::int32_t> label_N(this->stream, {411.0});
  DeviceVector<float> loss_N(this->stream, 1);
  cross_entropy_forward_backward<T>(this->stream, loss_N.ref(), logits_NV.ref(), label_N.cref(), 1);
  EXPECT_NEAR(loss_N.read()[0], 0, 1e-30);
  for (const double g : logits_NV.read()) EXPECT_NEAR(g, 0, 1e-30);
}

TYPED_TEST(CrossEntropy, a_nan_is_not_hidden) {
  using T = typename TypeParam::T;
  for (const std::int64_t V : {40, 509, 32000}) {
    auto logits = random_values<T>(V, 1);
    logits[V / 2] = std::numeric_limits<double>::quiet_NaN();
    DeviceMatrix<T> logits_NV(this->stream, 1, V, 0, logits);
    DeviceVector<std::int32_t> label_N(this->stream, {3.0});
    DeviceVector<float> loss_N(this->stream, 1);
    cross_entropy_forward_backward<T>(this->stream, loss_N.ref(), logits_NV.ref(), label_N.cref(),
                                      1);
    EXPECT_TRUE(std::isnan(loss_N.read()[0])) << V;
  }
}

TEST(CrossEntropyReference, gradient_is_the_derivative) {
  constexpr std::int64_t N = 4, V = 11;
  const std::vector<int> label = {3, -1, 0, 10};
  const auto logits = random_values<float>(N * V, 1);
  const auto loss = [&](const auto& v) {
    double sum = 0;
    for (const double one : reference::cross_entropy(v, label, 1).loss.value) sum += one;
    return 0.25 * sum;
  };
  test::expect_gradient(loss, logits, reference::cross_entropy(logits, label, 0.25).gradient.value,
                        10);
}

}  // namespace
}  // namespace koios
