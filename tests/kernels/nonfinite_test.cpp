#include "kernels/nonfinite.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"

namespace koios {
namespace {

using test::DeviceMatrix;
using test::DeviceVector;
using test::random_values;

constexpr double kInf = std::numeric_limits<double>::infinity();
const double kNaN = std::nan("");

template <class Case>
class CountNonfinite : public test::KernelTest<Case> {};
TYPED_TEST_SUITE(CountNonfinite, test::Cases, test::CaseName);

// Rows of every residue of a pack; the NaN between rows must not be counted.
TYPED_TEST(CountNonfinite, counts_each_element_once) {
  using T = typename TypeParam::T;
  for (const std::int64_t columns : {1, 7, 16, 97, 5000}) {
    for (const std::int64_t gap : {0, 3}) {
      auto values = random_values<T>(3 * columns, 1);
      std::int64_t want = 0;
      for (std::size_t i = 0; i < values.size(); i += 2, ++want) {
        values[i] = i % 3 == 0 ? kNaN : i % 3 == 1 ? kInf : -kInf;
      }
      values.back() = std::numeric_limits<float>::max() / 2;
      if (values.size() % 2 == 1) --want;
      DeviceMatrix<T> x(this->stream, 3, columns, gap, values);
      DeviceVector<std::int32_t> count(this->stream, {5});
      count_nonfinite<T>(this->stream, count.ref(), x.cref());
      EXPECT_EQ(count.read()[0], 5 + want) << columns << " gap " << gap;
    }
  }
}

template <class Case>
class NonfiniteGate : public test::KernelTest<Case> {};
TYPED_TEST_SUITE(NonfiniteGate, test::FloatCases, test::CaseName);

TYPED_TEST(NonfiniteGate, stretches_are_counted_where_it_is_one) {
  auto values = random_values<float>(100000, 2);
  for (const std::size_t i : {7UL, 8UL, 9UL, 30000UL, 99999UL}) values[i] = kNaN;
  DeviceVector<float> x(this->stream, values);
  const auto address = [&](std::int64_t i) {
    return static_cast<double>(reinterpret_cast<std::int64_t>(x.ref().data + i));
  };
  // Of 3, of none, of no element, and of the last one.
  DeviceMatrix<std::int64_t> stretches(
      this->stream, 4, 2, 0,
      {address(0), 10, address(10), 29990, address(5), 0, address(10), 99990});
  for (const int gate : {0, 1, 2}) {
    DeviceVector<std::int32_t> opened(this->stream, {static_cast<double>(gate)});
    DeviceVector<std::int32_t> count(this->stream, {0, 0, 0, 0});
    count_nonfinite_if(this->stream, count.ref(), stretches.cref(), opened.cref());
    const std::vector<double> want = {3, 0, 0, 2};
    EXPECT_EQ(count.read(), gate == 1 ? want : std::vector<double>(4, 0)) << gate;
  }
}

TYPED_TEST(NonfiniteGate, opens_once) {
  DeviceVector<std::int32_t> gate(this->stream, {0});
  const auto after = [&](double value) {
    DeviceVector<float> v(this->stream, {value});
    open_gate(this->stream, gate.ref(), v.cref());
    return gate.read()[0];
  };
  EXPECT_EQ(after(1e38), 0);
  EXPECT_EQ(after(kInf), 1);
  EXPECT_EQ(after(kNaN), 2);
  EXPECT_EQ(after(3), 2);
  EXPECT_EQ(after(-kInf), 2);
}

TYPED_TEST(NonfiniteGate, spoil_leaves_what_is_finite) {
  for (const double value : {0.0, -3e38, kInf, -kInf, kNaN}) {
    DeviceVector<float> sum(this->stream, {0.5}), v(this->stream, {value});
    spoil(this->stream, sum.ref(), v.cref());
    if (std::isfinite(value)) {
      EXPECT_EQ(sum.read()[0], 0.5);
    } else {
      EXPECT_TRUE(std::isnan(sum.read()[0])) << value;
    }
  }
}

}  // namespace
}  // namespace koios
