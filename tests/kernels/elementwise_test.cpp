#include "kernels/elementwise.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"

namespace koios {
namespace {

using test::DeviceMatrix;
using test::DeviceVector;
using test::random_values;

template <class To>
double rounded(double x) {
  return static_cast<float>(To(static_cast<float>(x)));
}

template <class Case>
class Elementwise : public test::KernelTest<Case> {
 protected:
  template <class To, class From>
  void check_cast_and_add_into() {
    for (const std::int64_t size : {1, 15, 16, 17, 509, 20001}) {
      for (const std::int64_t offset : {0, 1, 8}) {
        SCOPED_TRACE(cat(size, " at ", offset));
        const auto from = random_values<From>(size, 1), into = random_values<To>(size, 2);
        std::vector<double> want_cast(size), want_sum(size);
        for (std::int64_t i = 0; i < size; ++i) {
          want_cast[i] = rounded<To>(from[i]);
          want_sum[i] = rounded<To>(static_cast<float>(into[i]) + static_cast<float>(from[i]));
        }
        DeviceVector<From> src(this->stream, from, offset);
        DeviceVector<To> dst(this->stream, into, offset);
        add_into<To, From>(this->stream, dst.ref(), src.cref());
        EXPECT_EQ(dst.read(), want_sum);
        cast<To, From>(this->stream, dst.ref(), src.cref());
        EXPECT_EQ(dst.read(), want_cast);
      }
    }
  }
};
TYPED_TEST_SUITE(Elementwise, test::Cases, test::CaseName);

TYPED_TEST(Elementwise, cast_and_add_into_round_once) {
  this->template check_cast_and_add_into<typename TypeParam::T, float>();
  this->template check_cast_and_add_into<typename TypeParam::T, bf16>();
}

TYPED_TEST(Elementwise, cast_keeps_special_values) {
  using T = typename TypeParam::T;
  const double inf = std::numeric_limits<double>::infinity();
  // As many as two packs, so that whole packs and single elements see them. The largest bf16 is
  // 2^128 - 2^120: what lies half a step above rounds to infinity.
  std::vector<double> x(37, inf);
  x[1] = -inf;
  x[2] = std::nan("");
  x[3] = -0.0;
  x[4] = 0x1.ffp127;
  x[5] = 1 + 0x1p-8;  // a tie, to even: down
  x[6] = 1 + 0x3p-8;  // a tie, to even: up
  x[7] = 0x1p-130;    // below the normal numbers
  x[36] = std::nan("");
  DeviceVector<float> src(this->stream, x);
  DeviceVector<T> dst(this->stream, std::int64_t{37});
  cast<T, float>(this->stream, dst.ref(), src.cref());
  const auto got = dst.read();
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) {
      EXPECT_TRUE(std::isnan(got[i])) << i;
    } else {
      EXPECT_EQ(got[i], rounded<T>(x[i])) << i;
      EXPECT_EQ(std::signbit(got[i]), std::signbit(x[i])) << i;
    }
  }
}

TYPED_TEST(Elementwise, add_rounds_once) {
  using T = typename TypeParam::T;
  struct {
    std::int64_t N, D, gap;
  } dims[] = {{1, 1, 0}, {3, 96, 8}, {5, 97, 0}, {4, 97, 3}, {30, 1000, 0}};
  for (const auto [N, D, gap] : dims) {
    SCOPED_TRACE(cat(N, "x", D, "+", gap));
    const auto a = random_values<T>(N * D, 1), b = random_values<T>(N * D, 2);
    std::vector<double> want(N * D);
    for (std::int64_t k = 0; k < N * D; ++k) {
      want[k] = rounded<T>(static_cast<float>(a[k]) + static_cast<float>(b[k]));
    }
    DeviceMatrix<T> a_ND(this->stream, N, D, gap, a), b_ND(this->stream, N, D, 0, b);
    DeviceMatrix<T> dst_ND(this->stream, N, D, gap);
    add<T>(this->stream, dst_ND.ref(), a_ND.cref(), b_ND.cref());
    EXPECT_EQ(dst_ND.read(), want);
    add<T>(this->stream, a_ND.ref(), a_ND.cref(), b_ND.cref());
    EXPECT_EQ(a_ND.read(), want) << "in place";
  }
}

TYPED_TEST(Elementwise, copy_matrix_keeps_pitches) {
  using T = typename TypeParam::T;
  for (const std::int64_t columns : {1, 7, 96}) {
    const auto values = random_values<T>(5 * columns, 1);
    DeviceMatrix<T> src(this->stream, 5, columns, 8, values), dst(this->stream, 5, columns, 3);
    copy_matrix<T>(this->stream, dst.ref(), src.cref());
    EXPECT_EQ(dst.read(), values);
  }
}

TYPED_TEST(Elementwise, cast_of_matrices_rounds_and_keeps_pitches) {
  using T = typename TypeParam::T;
  for (const std::int64_t columns : {1, 7, 96}) {
    const auto values = random_values<float>(5 * columns, 1);
    std::vector<double> want;
    for (const double v : values) want.push_back(rounded<T>(static_cast<float>(v)));
    DeviceMatrix<float> src(this->stream, 5, columns, 8, values);
    DeviceMatrix<T> dst(this->stream, 5, columns, 16);
    cast<T, float>(this->stream, dst.ref(), src.cref());
    EXPECT_EQ(dst.read(), want);
  }
}

TYPED_TEST(Elementwise, fill_reaches_every_element) {
  for (const std::int64_t size : {1, 15, 17, 20001}) {
    DeviceVector<float> dst(this->stream, size);
    fill(this->stream, dst.ref(), 0.25F);
    EXPECT_EQ(dst.read(), std::vector<double>(size, 0.25));
  }
}

}  // namespace
}  // namespace koios
