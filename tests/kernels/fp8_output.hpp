// For kernels that cast what they compute: what two passes give.
#pragma once

#include "kernels/fp8.hpp"
#include "tests/kernels/backends.hpp"

namespace koios::test {

/// A matrix in 8 bits, its transpose, and what goes with a cast.
template <class Q>
struct Cast {
  DeviceMatrix<Q> q_NK, q_KN;
  DeviceVector<float> bound, inverse, amax;
  DeviceVector<std::int64_t> counts;

  Cast(Stream& s, std::int64_t N, std::int64_t K, std::int64_t gap, double of)
      : q_NK(s, N, K, gap),
        q_KN(s, K, N, gap),
        bound(s, {of}),
        inverse(s, {0.0}),
        amax(s, {0.0}),
        counts(s, std::vector<double>(kFp8Counts)) {}
  Fp8Scales scales() const { return {bound.cref(), inverse.ref()}; }
  Fp8Output<Q> output() const {
    return {q_NK.ref(), q_KN.ref(), scales(), amax.ref(), counts.ref()};
  }
};

/// But for the sign of NaN, which the GPU's instruction does not keep. tolerance: relative.
inline void expect_same(const std::vector<double>& got, const std::vector<double>& want,
                        double tolerance = 0) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    const bool same = std::isnan(want[i]) ? std::isnan(got[i])
                                          : got[i] == want[i] || std::abs(got[i] - want[i]) <=
                                                                     tolerance * std::abs(want[i]);
    if (!same) FAIL() << "element " << i << " is " << got[i] << ", not " << want[i];
  }
}

/// amax_tolerance: of the largest magnitude.
template <class Q>
void expect_same(const Cast<Q>& got, const Cast<Q>& want, double amax_tolerance = 0) {
  expect_same(got.q_NK.read(), want.q_NK.read());
  expect_same(got.q_KN.read(), want.q_KN.read());
  expect_same(got.inverse.read(), want.inverse.read());
  expect_same(got.amax.read(), want.amax.read(), amax_tolerance);
  expect_same(got.counts.read(), want.counts.read());
}

/// What two passes give: x in the compute type, and then its cast.
template <class Q, class T>
Cast<Q> cast_of(Stream& s, const DeviceMatrix<T>& x_NK, std::int64_t gap, double bound) {
  const auto [N, K] = x_NK.cref().extent;
  Cast<Q> cast(s, N, K, gap, bound);
  raise_amax<T>(s, cast.amax.ref(), x_NK.cref());
  cast_to_fp8_with_transpose<Q, T>(s, cast.q_NK.ref(), cast.q_KN.ref(), x_NK.cref(), cast.scales(),
                                   cast.scales(), cast.counts.ref());
  return cast;
}

}  // namespace koios::test
