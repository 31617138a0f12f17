// How results are judged. A kernel computes in float32 and rounds once to T, so with u the unit
// roundoff (half a unit in the last place) an element may be off by
//   u(T) |value|              the one rounding to T, and
//   steps * u(float) * terms  where `terms` is the sum of the magnitudes of what was added up to
//                             get the value, and `steps` the longest chain of float32 operations
//                             behind it (Higham, Accuracy and Stability, section 4.2)
// The second part is a worst case: it grows with the length of a sum, and real errors stay far
// below it. The normalised mean square error catches what it would let through.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "core/dtype.hpp"
#include "core/random.hpp"

namespace koios::test {

template <class T>
inline constexpr double unit_roundoff = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-8;

/// A reference value with the sum of the magnitudes of its terms.
struct Expected {
  std::vector<double> value, terms;

  explicit Expected(std::size_t size = 0) : value(size), terms(size) {}
  /// Values whose error is relative to themselves.
  static Expected relative(std::vector<double> values) {
    Expected e;
    e.value = std::move(values);
    for (const double v : e.value) e.terms.push_back(std::abs(v));
    return e;
  }
};

/// sum (got - want)^2 / sum want^2
inline double nmse(const std::vector<double>& got, const std::vector<double>& want) {
  double error = 0, power = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    power += want[i] * want[i];
  }
  return power > 0 ? error / power : error;
}

template <class T>
void expect_close(const std::vector<double>& got, const Expected& want, double steps) {
  ASSERT_EQ(got.size(), want.value.size());
  double terms = 0, values = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double bound = 1.01 * unit_roundoff<T> * std::abs(want.value[i]) +
                         steps * unit_roundoff<float> * want.terms[i] + 1e-37;
    ASSERT_LE(std::abs(got[i] - want.value[i]), bound)
        << "element " << i << ": " << got[i] << " instead of " << want.value[i];
    terms += want.terms[i] * want.terms[i];
    values += want.value[i] * want.value[i];
  }
  // Roundings are independent: the mean square of one is u^2 / 3, a chain of them grows as a root.
  if (values == 0) return;
  const double rounding = unit_roundoff<T> * unit_roundoff<T>;
  const double chain = steps * unit_roundoff<float> * unit_roundoff<float> * terms / values;
  EXPECT_LE(nmse(got, want.value), rounding + chain);
}

/// Normal deviates, already representable in T.
template <class T>
std::vector<double> random_values(std::int64_t count, std::uint64_t seed, double scale = 1) {
  std::vector<double> values(count);
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(T(static_cast<float>(scale * normal_at(seed, 0, i, 6.0))));
  }
  return values;
}

/// Compares an analytic gradient with central differences of f, all in double: d f / d x[i] for
/// every i. A step h errs by h^2 f''' / 6 + 2 u |f| / h, about 1e-10 of |f| at h = 1e-5.
template <class F>
void expect_gradient(const F& f, std::vector<double> x, const std::vector<double>& gradient,
                     double scale) {
  ASSERT_EQ(x.size(), gradient.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    const double h = 1e-5;
    x[i] = at + h;
    const double above = f(x);
    x[i] = at - h;
    const double below = f(x);
    x[i] = at;
    ASSERT_NEAR((above - below) / (2 * h), gradient[i], 1e-8 * scale) << "element " << i;
  }
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace koios::test
