#include "kernels/embedding.hpp"

#include <gtest/gtest.h>

#include <map>

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

struct Dims {
  std::int64_t N, V, D, gap;
};
constexpr Dims kDims[] = {{1, 1, 1, 0},   {5, 3, 8, 0},      {64, 20, 96, 8},
                          {33, 7, 97, 0}, {200, 509, 97, 5}, {700, 50, 256, 0}};

/// Half of the tokens are token 0, the others spread: one long segment and many short ones.
std::vector<int> tokens_of(const Dims& dims) {
  std::vector<int> token(dims.N);
  for (std::int64_t n = 0; n < dims.N; ++n) {
    token[n] = n % 2 == 0 ? 0 : static_cast<int>(mix64(n) % static_cast<std::uint64_t>(dims.V));
  }
  return token;
}

std::vector<double> as_double(const std::vector<int>& v) { return {v.begin(), v.end()}; }

template <class Case>
class Embedding : public test::KernelTest<Case> {};
TYPED_TEST_SUITE(Embedding, test::Cases, test::CaseName);

TYPED_TEST(Embedding, forward_copies_rows) {
  using T = typename TypeParam::T;
  for (const auto& dims : kDims) {
    const auto [N, V, D, gap] = dims;
    SCOPED_TRACE(cat(N, " tokens of ", V, ", ", D, "+", gap));
    const auto table = random_values<T>(V * D, 1);
    const auto token = tokens_of(dims);
    DeviceMatrix<T> table_VD(this->stream, V, D, gap, table), y_ND(this->stream, N, D, gap);
    DeviceVector<std::int32_t> token_N(this->stream, as_double(token));
    embedding_forward<T>(this->stream, y_ND.ref(), token_N.cref(), table_VD.cref());
    const auto y = y_ND.read();
    for (std::int64_t n = 0; n < N; ++n) {
      for (std::int64_t i = 0; i < D; ++i) ASSERT_EQ(y[n * D + i], table[token[n] * D + i]);
    }
  }
}

TYPED_TEST(Embedding, backward_sums_each_token_in_order) {
  using T = typename TypeParam::T;
  for (const auto& dims : kDims) {
    const auto [N, V, D, gap] = dims;
    SCOPED_TRACE(cat(N, " tokens of ", V, ", ", D, "+", gap));
    const auto token = tokens_of(dims);
    std::map<int, std::vector<int>> positions;
    for (std::int64_t n = 0; n < N; ++n) positions[token[n]].push_back(static_cast<int>(n));
    std::vector<int> position, begin{0}, distinct;
    for (const auto& [id, of_id] : positions) {
      position.insert(position.end(), of_id.begin(), of_id.end());
      begin.push_back(static_cast<int>(position.size()));
      distinct.push_back(id);
    }

    const auto dy = random_values<T>(N * D, 1);
    const auto before = random_values<float>(V * D, 2);
    // In float32 and in order: the kernel's very bits.
    std::vector<float> want(before.begin(), before.end());
    for (std::int64_t n = 0; n < N; ++n) {
      for (std::int64_t i = 0; i < D; ++i) {
        want[token[n] * D + i] += static_cast<float>(dy[n * D + i]);
      }
    }

    DeviceMatrix<T> dy_ND(this->stream, N, D, gap, dy);
    DeviceMatrix<float> d_table_VD(this->stream, V, D, gap, before);
    DeviceVector<std::int32_t> position_N(this->stream, as_double(position));
    DeviceVector<std::int32_t> begin_S1(this->stream, as_double(begin));
    DeviceVector<std::int32_t> token_S(this->stream, as_double(distinct));
    embedding_backward<T>(this->stream, d_table_VD.ref(), dy_ND.cref(),
                          {position_N.cref(), begin_S1.cref(), token_S.cref()});
    EXPECT_EQ(d_table_VD.read(), std::vector<double>(want.begin(), want.end()));
  }
}

TYPED_TEST(Embedding, parts_of_the_vocabulary_add_up) {
  using T = typename TypeParam::T;
  constexpr std::int64_t N = 40, V = 12, D = 24, kFirst = 4, kHere = 4;
  const auto table = random_values<T>(V * D, 1), dy = random_values<T>(N * D, 2);
  std::vector<int> token, position, begin{0}, distinct;
  for (std::int64_t n = 0; n < N; ++n) token.push_back(static_cast<int>(n % V));
  std::vector<double> want(kHere * D);
  for (int id = 0; id < V; ++id) {
    for (std::int64_t n = id; n < N; n += V) {
      position.push_back(static_cast<int>(n));
      if (id < kFirst || id >= kFirst + kHere) continue;
      for (std::int64_t i = 0; i < D; ++i) {
        double& sum = want[(id - kFirst) * D + i];
        sum = static_cast<float>(sum) + static_cast<float>(dy[n * D + i]);
      }
    }
    begin.push_back(static_cast<int>(position.size()));
    distinct.push_back(id);
  }
  const std::vector<double> part(table.begin() + kFirst * D, table.begin() + (kFirst + kHere) * D);
  DeviceMatrix<T> table_VD(this->stream, kHere, D, 0, part), y_ND(this->stream, N, D, 0);
  DeviceVector<std::int32_t> token_N(this->stream, as_double(token));
  embedding_forward<T>(this->stream, y_ND.ref(), token_N.cref(), table_VD.cref(), kFirst);
  const auto y = y_ND.read();
  for (std::int64_t n = 0; n < N; ++n) {
    const bool here = token[n] >= kFirst && token[n] < kFirst + kHere;
    for (std::int64_t i = 0; i < D; ++i) {
      ASSERT_EQ(y[n * D + i], here ? table[token[n] * D + i] : 0);
    }
  }

  DeviceMatrix<T> dy_ND(this->stream, N, D, 0, dy);
  DeviceMatrix<float> d_table_VD(this->stream, kHere, D, 0, std::vector<double>(kHere * D));
  DeviceVector<std::int32_t> position_N(this->stream, as_double(position));
  DeviceVector<std::int32_t> begin_S1(this->stream, as_double(begin));
  DeviceVector<std::int32_t> token_S(this->stream, as_double(distinct));
  embedding_backward<T>(this->stream, d_table_VD.ref(), dy_ND.cref(),
                        {position_N.cref(), begin_S1.cref(), token_S.cref()}, kFirst);
  EXPECT_EQ(d_table_VD.read(), want);
}

}  // namespace
}  // namespace koios
