#include "kernels/rope.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/fp8_output.hpp"
#include "tests/kernels/reference.hpp"

namespace koios {
namespace {

using test::DeviceMatrix;
using test::DeviceVector;
using test::expect_close;
using test::random_values;

constexpr double kTheta = 10000;

struct Dims {
  std::int64_t batch, T, heads, E, gap;
};
// Head sizes below, at and beside a pack; slices with odd and even pitches.
constexpr Dims kDims[] = {{1, 1, 1, 2, 0},    {2, 3, 1, 6, 0},  {2, 5, 3, 24, 8},
                          {1, 7, 5, 10, 3},   {3, 4, 4, 32, 0}, {2, 33, 6, 64, 64},
                          {1, 70, 40, 128, 8}};

template <class Case>
class Rope : public test::KernelTest<Case> {};
TYPED_TEST_SUITE(Rope, test::Cases, test::CaseName);

TYPED_TEST(Rope, table_matches_reference) {
  for (const auto& [T, E] : {std::pair{1, 2}, {7, 10}, {4096, 128}}) {
    DeviceMatrix<float> table_TE(this->stream, T, E);
    rope_table(this->stream, table_TE.ref(), kTheta);
    const auto got = table_TE.read();
    const auto want = reference::rope_table(T, E, kTheta);
    // Rounded once from double; the angle itself is good to a few units of its last place.
    for (std::size_t k = 0; k < want.size(); ++k) ASSERT_NEAR(got[k], want[k], 0x1p-25 + 1e-11);
  }
}

TYPED_TEST(Rope, finds_the_largest_magnitude) {
  using Element = typename TypeParam::T;
  Stream& s = this->stream;
  for (const auto [batch, T, heads, E, gap] : kDims) {
    SCOPED_TRACE(cat(batch, "x", T, ", heads ", heads, "x", E, "+", gap));
    const auto x = random_values<Element>(batch * T * heads * E, 1);
    DeviceMatrix<float> table_TE(s, T, E);
    rope_table(s, table_TE.ref(), kTheta);
    DeviceMatrix<Element> x_N(s, batch * T, heads * E, gap, x);
    for (const double low : {0.0, 1e30}) {
      x_N.write(x);
      const DeviceVector<float> amax(s, {low});
      rope_backward<Element>(s, x_N.ref(), table_TE.cref(), amax.ref());
      const double least = static_cast<float>(low);
      EXPECT_EQ(amax.read()[0], std::max(test::amax_of(x_N.read()), least));
    }
  }
}

TYPED_TEST(Rope, forward_and_backward_match_reference) {
  using Element = typename TypeParam::T;
  for (const auto [batch, T, heads, E, gap] : kDims) {
    SCOPED_TRACE(cat(batch, "x", T, ", heads ", heads, "x", E, "+", gap));
    const std::int64_t N = batch * T;
    const auto x = random_values<Element>(N * heads * E, 1);
    // Through the kernel's table, so that only the rotation is judged here.
    DeviceMatrix<float> table_TE(this->stream, T, E);
    rope_table(this->stream, table_TE.ref(), kTheta);
    const auto table = table_TE.read();

    DeviceMatrix<Element> x_N(this->stream, N, heads * E, gap, x);
    rope_forward<Element>(this->stream, x_N.ref(), table_TE.cref());
    expect_close<Element>(x_N.read(), reference::rope(x, table, heads * E, T, E, 1), 2);

    x_N.write(x);
    rope_backward<Element>(this->stream, x_N.ref(), table_TE.cref());
    expect_close<Element>(x_N.read(), reference::rope(x, table, heads * E, T, E, -1), 2);
  }
}

// All columns are turned, or some are left as they are, from where no pack begins.
TYPED_TEST(Rope, backward_casts_at_once_to_the_bits_of_two_passes) {
  using Element = typename TypeParam::T;
  Stream& s = this->stream;
  constexpr Dims kTiles[] = {{1, 1, 1, 2, 0},    {2, 3, 1, 6, 0},    {2, 72, 3, 32, 16},
                             {1, 130, 5, 10, 3}, {2, 128, 2, 64, 0}, {3, 48, 3, 48, 8}};
  for (const auto [batch, T, heads, E, gap] : kTiles) {
    for (const std::int64_t rest : {std::int64_t{0}, E, 7 * E}) {
      const std::int64_t N = batch * T, K = heads * E + rest;
      SCOPED_TRACE(cat(N, "x", heads, "x", E, ", ", rest, " more, +", gap));
      auto x = random_values<Element>(N * K, 1);
      x[N * K - 1] = x[0] = std::numeric_limits<double>::quiet_NaN();
      DeviceMatrix<float> table_TE(s, T, E);
      rope_table(s, table_TE.ref(), kTheta);
      const DeviceMatrix<Element> x_NK(s, N, K, gap, x), turned_NK(s, N, K, gap, x);
      rope_backward<Element>(s, column_range(turned_NK.ref(), 0, heads * E), table_TE.cref());
      for (const double bound : {1.0, 20.0}) {
        const auto want = test::cast_of<fp8_e5m2>(s, turned_NK, gap, bound);
        const test::Cast<fp8_e5m2> got(s, N, K, gap, bound);
        rope_backward_to_fp8<Element>(s, got.output(), x_NK.cref(), heads * E, table_TE.cref());
        test::expect_same(got, want);
      }
    }
  }
}

TEST(RopeReference, backward_is_the_transpose) {
  constexpr std::int64_t T = 5, heads = 2, E = 6;
  const auto table = reference::rope_table(T, E, kTheta);
  const auto x = random_values<float>(T * heads * E, 1),
             dy = random_values<float>(T * heads * E, 2);
  const auto loss = [&](const auto& v) {
    return test::dot(reference::rope(v, table, heads * E, T, E, 1).value, dy);
  };
  test::expect_gradient(loss, x, reference::rope(dy, table, heads * E, T, E, -1).value, 10);
}

}  // namespace
}  // namespace koios
