#include "kernels/fp8.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <string>

#include "kernels/fp8_weights.hpp"
#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"

namespace koios {
namespace {

using test::amax_of;
using test::DeviceMatrix;
using test::DeviceVector;
using test::random_values;

const double kNaN = std::numeric_limits<double>::quiet_NaN();
const double kInfinity = std::numeric_limits<double>::infinity();

float as_float(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }
std::uint32_t bits_of(float value) { return __builtin_bit_cast(std::uint32_t, value); }

/// What PyTorch's casts do to every float32, by tools/make_fp8_golden.py.
template <class Q>
class Golden {
 public:
  Golden() {
    const char* elsewhere = std::getenv("KOIOS_GOLDEN_DIR");  // carried to another machine
    std::ifstream file(std::string(elsewhere != nullptr ? elsewhere : KOIOS_GOLDEN_DIR) +
                       "/fp8_casts.txt");
    const std::string wanted = std::is_same_v<Q, fp8_e4m3> ? "e4m3" : "e5m2";
    std::string name;
    std::uint32_t code = 0, least = 0, value = 0;
    while (file >> name >> std::hex >> code >> least >> value) {
      if (name != wanted) continue;
      least_.push_back(least);
      value_.push_back(as_float(value));
    }
    KOIOS_REQUIRE(std::ssize(least_) == Q::Format::kLargestCode + 1, least_.size(), " codes of ",
                  wanted);
  }

  std::uint8_t code(float x) const {
    const auto sign = static_cast<std::uint8_t>(bits_of(x) >> 24 & 0x80U);
    if (std::isnan(x)) return sign | 0x7fU;
    const auto after = std::upper_bound(least_.begin(), least_.end(), bits_of(x) & 0x7fffffffU);
    return sign | static_cast<std::uint8_t>(after - least_.begin() - 1);
  }
  const std::vector<std::uint32_t>& least() const { return least_; }
  const std::vector<float>& value() const { return value_; }

 private:
  std::vector<std::uint32_t> least_;
  std::vector<float> value_;
};

/// All float32 within one step of a boundary, and random bit patterns.
template <class Q>
std::vector<float> interesting_floats(const Golden<Q>& golden) {
  std::vector<std::uint32_t> bits;
  for (const std::uint32_t least : golden.least()) {
    for (const std::uint32_t b : {least - (least > 0 ? 1 : 0), least, least + 1}) bits.push_back(b);
  }
  for (const std::uint32_t b : {0x00000001U, 0x007fffffU, 0x00800000U, 0x7f7fffffU, 0x7f800000U,
                                0x7f800001U, 0x7fc00000U, 0x7fffffffU}) {
    bits.push_back(b);
  }
  for (std::uint64_t i = 0; i < 200000; ++i) {
    bits.push_back(philox(1, i, 0).word[0] & 0x7fffffffU);
  }
  std::vector<float> values;
  for (const std::uint32_t b : bits) {
    values.push_back(as_float(b));
    values.push_back(as_float(b | 0x80000000U));
  }
  return values;
}

template <class Q>
void expect_codes_of_pytorch() {
  const Golden<Q> golden;
  for (const float x : interesting_floats(golden)) {
    ASSERT_EQ(Q(x).bits, golden.code(x)) << std::hex << bits_of(x);
  }
  for (std::uint32_t b = 0; b < 65536; ++b) {
    const float x = as_float(b << 16);
    ASSERT_EQ(Q(x).bits, golden.code(x)) << "bf16 " << std::hex << b;
  }
  for (std::uint32_t code = 0; code < 256; ++code) {
    Q q;
    q.bits = static_cast<std::uint8_t>(code);
    const std::uint32_t magnitude = code & 0x7f;
    const auto value = static_cast<float>(q);
    EXPECT_EQ(std::signbit(value), code >= 128);
    if (magnitude < golden.value().size()) {
      EXPECT_EQ(std::abs(value), golden.value()[magnitude]) << code;
    } else if (std::is_same_v<Q, fp8_e5m2> && magnitude == 0x7c) {
      EXPECT_TRUE(std::isinf(value));
    } else {
      EXPECT_TRUE(std::isnan(value)) << code;
    }
  }
}

TEST(Fp8Types, cast_as_pytorch_does) {
  expect_codes_of_pytorch<fp8_e4m3>();
  expect_codes_of_pytorch<fp8_e5m2>();
}

/// torchao's amax_to_scale, and with powers_of_two its rounding down.
template <class Q>
float scale_of(double amax, bool powers_of_two = false) {
  const auto scale =
      static_cast<float>(Q::Format::kLargest / (std::isnan(amax) ? kNaN : std::max(amax, 1e-12)));
  if (!powers_of_two || std::isnan(scale) || scale == 0) return scale;
  return static_cast<float>(std::exp2(std::floor(std::log2(static_cast<double>(scale)))));
}

template <class Q>
Q cast_value(double x, float scale) {
  return Q(static_cast<float>(x) * scale);
}

void expect_same(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    const bool same = std::isnan(want[i]) ? std::isnan(got[i]) : got[i] == want[i];
    if (!same) FAIL() << "element " << i << " is " << got[i] << ", not " << want[i];
  }
}

struct Dims {
  std::int64_t N, K, gap;
};
// Whole tiles and parts of them, with and without packs, one row, one column.
constexpr Dims kDims[] = {{1, 1, 0},     {3, 5, 2},     {128, 128, 0},  {16, 32, 16},
                          {144, 208, 0}, {130, 257, 0}, {256, 64, 32},  {300, 272, 0},
                          {2, 4096, 0},  {1000, 16, 0}, {272, 400, 16}, {261, 328, 8}};

template <class Case>
class Fp8Kernels : public test::KernelTest<Case> {
 protected:
  using T = typename Case::T;

  /// Ordinary values, zero rows and columns, one huge element.
  static std::vector<double> values(std::int64_t N, std::int64_t K) {
    auto x = random_values<T>(N * K, 7);
    for (std::int64_t k = 0; k < K; ++k) x[N / 2 * K + k] = 0;
    for (std::int64_t n = 0; n < N; ++n) x[n * K + K / 3] = 0;
    if (N * K > 100) x[N * K - 3] = 1e30;
    for (double& v : x) v = static_cast<float>(T(static_cast<float>(v)));
    return x;
  }
};
TYPED_TEST_SUITE(Fp8Kernels, test::Cases, test::CaseName);

/// All bf16, or what is interesting of float32, times exactly one.
template <class Q, class T>
void expect_kernel_casts_as_pytorch(Stream& stream) {
  const Golden<Q> golden;
  std::vector<double> x;
  if constexpr (std::is_same_v<T, bf16>) {
    for (std::uint32_t b = 0; b < 65536; ++b) x.push_back(as_float(b << 16));
  } else {
    for (const float v : interesting_floats(golden)) x.push_back(v);
  }
  x.resize(round_up(std::ssize(x), 16) + 3);  // packs, and a tail
  const std::int64_t size = std::ssize(x);
  DeviceMatrix<T> x_dev(stream, 1, size, 0, x);
  DeviceMatrix<Q> q_dev(stream, 1, size);
  DeviceVector<float> amax(stream, {Q::Format::kLargest}), inverse(stream, {0.0});
  cast_to_fp8<Q, T>(stream, q_dev.ref(), x_dev.cref(), {amax.cref(), inverse.ref()}, {});
  EXPECT_EQ(inverse.read()[0], 1);
  const auto got = q_dev.bits();
  for (std::int64_t i = 0; i < size; ++i) {
    // The sign of NaN is not kept by the GPU's instruction.
    const std::uint8_t mask = std::isnan(x[i]) ? 0x7f : 0xff;
    ASSERT_EQ(got[i].bits & mask, golden.code(static_cast<float>(x[i])) & mask) << x[i];
  }
}

TYPED_TEST(Fp8Kernels, cast_bits_as_pytorch_does) {
  expect_kernel_casts_as_pytorch<fp8_e4m3, typename TypeParam::T>(this->stream);
  expect_kernel_casts_as_pytorch<fp8_e5m2, typename TypeParam::T>(this->stream);
}

TYPED_TEST(Fp8Kernels, amax_of_all_rows_and_columns) {
  using T = typename TypeParam::T;
  for (const auto [N, K, gap] : kDims) {
    for (const bool with_nan : {false, true}) {
      SCOPED_TRACE(cat(N, "x", K, "+", gap, with_nan ? " with NaN" : ""));
      auto x = this->values(N, K);
      if (with_nan) {
        x[(N - 1) * K] = -kInfinity;
        x[N / 3 * K + K - 1] = -kNaN;
      }
      DeviceMatrix<T> x_dev(this->stream, N, K, gap, x);
      DeviceVector<float> amax(this->stream, {0.0});
      raise_amax<T>(this->stream, amax.ref(), x_dev.cref());
      expect_same(amax.read(), {amax_of(x)});

      std::vector<double> of_rows(N), of_columns(K);
      for (std::int64_t n = 0; n < N; ++n) {
        of_rows[n] = amax_of({x.begin() + n * K, x.begin() + (n + 1) * K});
      }
      for (std::int64_t k = 0; k < K; ++k) {
        std::vector<double> column;
        for (std::int64_t n = 0; n < N; ++n) column.push_back(x[n * K + k]);
        of_columns[k] = amax_of(column);
      }
      DeviceVector<float> rows(this->stream, std::vector<double>(N, 0.0));
      DeviceVector<float> columns(this->stream, std::vector<double>(K, 0.0));
      raise_amax_of_rows_and_columns<T>(this->stream, rows.ref(), columns.ref(), x_dev.cref());
      expect_same(rows.read(), of_rows);
      expect_same(columns.read(), of_columns);
    }
  }
}

TYPED_TEST(Fp8Kernels, amax_only_rises) {
  using T = typename TypeParam::T;
  DeviceMatrix<T> x(this->stream, 2, 40, 0, std::vector<double>(80, -2.0));
  for (const double before : {1.0, 3.0}) {
    DeviceVector<float> amax(this->stream, {before});
    raise_amax<T>(this->stream, amax.ref(), x.cref());
    EXPECT_EQ(amax.read()[0], std::max(before, 2.0));
    const double after = std::max(before, 2.0);
    DeviceVector<float> rows(this->stream, std::vector<double>(2, before));
    DeviceVector<float> columns(this->stream, std::vector<double>(40, before));
    raise_amax_of_rows_and_columns<T>(this->stream, rows.ref(), columns.ref(), x.cref());
    EXPECT_EQ(rows.read(), std::vector<double>(2, after));
    EXPECT_EQ(columns.read(), std::vector<double>(40, after));
  }
}

TEST(Fp8Bounds, keep_the_older_one_where_an_amax_is_of_no_use) {
  for (const Backend backend : {Backend::host, Backend::cuda}) {
    if (!is_built_in(backend)) continue;
    Stream s(backend, "test");
    std::vector<double> amaxes(40, 3), kept(40, 6);  // packs, and a tail
    const std::vector<double> useless = {0, kNaN, kInfinity, 3e38};
    for (const std::size_t at : {0, 17, 36}) {
      for (std::size_t i = 0; i < useless.size(); ++i) {
        amaxes[at + i] = useless[i];
        kept[at + i] = 7;
      }
    }
    const DeviceVector<float> amax(s, amaxes), bound(s, std::vector<double>(40, 7));
    for (const double norm : {kNaN, kInfinity}) {
      set_bounds(s, bound.ref(), amax.cref(), 2, DeviceVector<float>(s, {norm}).cref());
      EXPECT_EQ(bound.read(), std::vector<double>(40, 7));
    }
    set_bounds(s, bound.ref(), amax.cref(), 2, DeviceVector<float>(s, {1.5}).cref());
    EXPECT_EQ(bound.read(), kept);
  }
}

/// Casts x with scales of `amax_N` and `amax_K` (one each for tensorwise) and compares both results
/// and the counters.
template <class Q, class T>
void check_cast(Stream& stream, const Dims& dims, const std::vector<double>& x,
                const std::vector<double>& amax_N, const std::vector<double>& amax_K,
                bool powers_of_two) {
  const auto [N, K, gap] = dims;
  const auto at = [](const std::vector<float>& scales, std::int64_t i) {
    return scales[scales.size() == 1 ? 0 : i];
  };
  std::vector<double> want(N * K), want_turned(N * K), inverse_N, inverse_K;
  std::vector<float> scale_N, scale_K;
  const bool one_scale = amax_N.size() == 1 && amax_K.size() == 1;
  std::vector<double> want_counts(kFp8Counts);
  const auto count = [&](Fp8Count which, bool met) {
    want_counts[static_cast<int>(which)] += met ? 1 : 0;
  };
  const auto saturates = [](double v, float scale) {
    return std::abs(static_cast<float>(v) * scale) >= Q::Format::kTooLarge;
  };
  for (const double a : amax_N) count(Fp8Count::zero_amax, a == 0);
  for (const double a : amax_K) count(Fp8Count::zero_amax, a == 0 && !one_scale);
  for (const double a : amax_N) scale_N.push_back(scale_of<Q>(a, powers_of_two));
  for (const double a : amax_K) scale_K.push_back(scale_of<Q>(a, powers_of_two));
  for (const float scale : scale_N) inverse_N.push_back(1.0F / scale);
  for (const float scale : scale_K) inverse_K.push_back(1.0F / scale);
  for (std::int64_t n = 0; n < N; ++n) {
    for (std::int64_t k = 0; k < K; ++k) {
      const double v = x[n * K + k];
      want[n * K + k] = static_cast<float>(cast_value<Q>(v, at(scale_N, n)));
      want_turned[k * N + n] = static_cast<float>(cast_value<Q>(v, at(scale_K, k)));
      count(Fp8Count::saturated, saturates(v, at(scale_N, n)));
      count(Fp8Count::saturated, saturates(v, at(scale_K, k)) && !one_scale);
    }
  }
  DeviceMatrix<T> x_dev(stream, N, K, gap, x);
  DeviceMatrix<Q> q_NK(stream, N, K, gap), q_KN(stream, K, N, gap);
  DeviceVector<float> amax_N_dev(stream, amax_N), amax_K_dev(stream, amax_K);
  DeviceVector<float> inverse_N_dev(stream, std::vector<double>(amax_N.size()));
  DeviceVector<float> inverse_K_dev(stream, std::vector<double>(amax_K.size()));
  const Fp8Scales rows{amax_N_dev.cref(), inverse_N_dev.ref(), powers_of_two};
  const Fp8Scales columns =
      one_scale ? rows : Fp8Scales{amax_K_dev.cref(), inverse_K_dev.ref(), powers_of_two};
  DeviceVector<std::int64_t> counts(stream, std::vector<double>(kFp8Counts));

  cast_to_fp8<Q, T>(stream, q_NK.ref(), x_dev.cref(), rows, {});
  expect_same(q_NK.read(), want);
  expect_same(inverse_N_dev.read(), inverse_N);

  DeviceMatrix<Q> both_NK(stream, N, K, gap);
  cast_to_fp8_with_transpose<Q, T>(stream, both_NK.ref(), q_KN.ref(), x_dev.cref(), rows, columns,
                                   counts.ref());
  expect_same(counts.read(), want_counts);
  expect_same(both_NK.read(), want);
  expect_same(q_KN.read(), want_turned);
  if (!one_scale) expect_same(inverse_K_dev.read(), inverse_K);
  DeviceMatrix<Q> only_KN(stream, K, N, gap);
  cast_to_fp8_with_transpose<Q, T>(stream, {}, only_KN.ref(), x_dev.cref(), rows, columns,
                                   counts.ref());
  expect_same(only_KN.read(), want_turned);

  DeviceMatrix<Q> turned(stream, K, N, gap);
  transpose_fp8<Q>(stream, turned.ref(), q_NK.cref());
  std::vector<double> want_transpose(N * K);
  for (std::int64_t n = 0; n < N; ++n) {
    for (std::int64_t k = 0; k < K; ++k) want_transpose[k * N + n] = want[n * K + k];
  }
  expect_same(turned.read(), want_transpose);
}

TYPED_TEST(Fp8Kernels, casts_and_transposes_with_one_scale) {
  using T = typename TypeParam::T;
  for (const Dims& dims : kDims) {
    SCOPED_TRACE(cat(dims.N, "x", dims.K, "+", dims.gap));
    auto x = this->values(dims.N, dims.K);
    const double amax = amax_of(x);
    check_cast<fp8_e4m3, T>(this->stream, dims, x, {amax}, {amax}, false);
    check_cast<fp8_e4m3, T>(this->stream, dims, x, {0.5}, {0.5}, false);  // much saturates
    check_cast<fp8_e5m2, T>(this->stream, dims, x, {amax}, {amax}, false);
    if (dims.N * dims.K > 20000) continue;
    x[0] = kNaN;  // one element is NaN, then the amax too, then everything
    check_cast<fp8_e4m3, T>(this->stream, dims, x, {amax}, {amax}, false);
    check_cast<fp8_e4m3, T>(this->stream, dims, x, {kNaN}, {kNaN}, true);
    check_cast<fp8_e5m2, T>(this->stream, dims, x, {kInfinity}, {kInfinity}, false);
    const std::vector<double> zeros(dims.N * dims.K);
    check_cast<fp8_e4m3, T>(this->stream, dims, zeros, {0}, {0}, false);
  }
}

TYPED_TEST(Fp8Kernels, casts_and_transposes_with_scales_of_rows) {
  using T = typename TypeParam::T;
  for (const Dims& dims : kDims) {
    if (dims.N == 1 || dims.K == 1) continue;
    for (const bool powers_of_two : {false, true}) {
      SCOPED_TRACE(cat(dims.N, "x", dims.K, "+", dims.gap));
      const auto x = this->values(dims.N, dims.K);
      std::vector<double> amax_N(dims.N), amax_K(dims.K);
      for (std::int64_t i = 0; i < dims.N * dims.K; ++i) {
        double& of_row = amax_N[i / dims.K];
        double& of_column = amax_K[i % dims.K];
        of_row = std::max(of_row, std::abs(x[i]));
        of_column = std::max(of_column, std::abs(x[i]));
      }
      check_cast<fp8_e4m3, T>(this->stream, dims, x, amax_N, amax_K, powers_of_two);
      for (double& amax : amax_N) amax = static_cast<float>(amax / 3);  // older ones
      for (double& amax : amax_K) amax = static_cast<float>(amax / 2);
      amax_N[dims.N - 1] = kNaN;
      amax_K[dims.K - 1] = kInfinity;
      check_cast<fp8_e4m3, T>(this->stream, dims, x, amax_N, amax_K, powers_of_two);
    }
  }
}

TYPED_TEST(Fp8Kernels, counts_what_saturates_and_scales_of_zeros) {
  using T = typename TypeParam::T;
  // Scale 1. Between 448 and 464 the largest number is the nearest.
  std::vector<double> x(64 * 48, 1.0);
  for (const std::int64_t i : {0, 77, 3071}) x[i] = -480;
  x[100] = 456;
  x[200] = kInfinity;
  x[300] = kNaN;
  DeviceMatrix<T> x_dev(this->stream, 64, 48, 0, x);
  DeviceMatrix<fp8_e4m3> q_NK(this->stream, 64, 48), q_KN(this->stream, 48, 64);
  DeviceVector<float> amax(this->stream, {448.0}), inverse(this->stream, {0.0});
  DeviceVector<std::int64_t> counts(this->stream, {10.0, 20.0});
  const Fp8Scales scales{amax.cref(), inverse.ref()};
  cast_to_fp8<fp8_e4m3, T>(this->stream, q_NK.ref(), x_dev.cref(), scales, counts.ref());
  EXPECT_EQ(counts.read(), (std::vector<double>{14, 20}));
  cast_to_fp8_with_transpose<fp8_e4m3, T>(this->stream, q_NK.ref(), q_KN.ref(), x_dev.cref(),
                                          scales, scales, counts.ref());
  EXPECT_EQ(counts.read(), (std::vector<double>{18, 20}));

  x_dev.write(std::vector<double>(64 * 48, 0.0));
  const DeviceVector<float> zero(this->stream, {0.0});
  const Fp8Scales of_zero{zero.cref(), inverse.ref()};
  cast_to_fp8_with_transpose<fp8_e4m3, T>(this->stream, q_NK.ref(), q_KN.ref(), x_dev.cref(),
                                          of_zero, of_zero, counts.ref());
  EXPECT_EQ(counts.read(), (std::vector<double>{18, 21}));
  EXPECT_EQ(q_NK.read(), std::vector<double>(64 * 48));
}

/// One scale for each group of elements: group(n, k) tells which.
template <class Q, class Group>
std::pair<std::vector<double>, std::vector<double>> cast_in_groups(const std::vector<double>& x,
                                                                   std::int64_t K,
                                                                   std::int64_t groups,
                                                                   const Group& group) {
  std::vector<double> amax(groups), q(x.size()), inverse(groups);
  for (std::int64_t i = 0; i < std::ssize(x); ++i) {
    double& largest = amax[group(i / K, i % K)];
    if (!std::isnan(largest)) {
      largest = std::isnan(x[i]) ? kNaN : std::max(largest, std::abs(x[i]));
    }
  }
  for (std::int64_t i = 0; i < std::ssize(x); ++i) {
    q[i] = static_cast<float>(cast_value<Q>(x[i], scale_of<Q>(amax[group(i / K, i % K)])));
  }
  for (std::int64_t g = 0; g < groups; ++g) inverse[g] = 1.0F / scale_of<Q>(amax[g]);
  return {q, inverse};
}

template <class Q>
double scales_of_zeros(const std::vector<double>& inverse) {
  return static_cast<double>(std::count(inverse.begin(), inverse.end(), 1.0F / scale_of<Q>(0)));
}

std::vector<double> transposed(const std::vector<double>& x, std::int64_t K) {
  const std::int64_t N = std::ssize(x) / K;
  std::vector<double> r(x.size());
  for (std::int64_t i = 0; i < std::ssize(x); ++i) r[i % K * N + i / K] = x[i];
  return r;
}

TYPED_TEST(Fp8Kernels, casts_in_pieces_and_squares) {
  using T = typename TypeParam::T;
  using Q = fp8_e4m3;
  for (const auto [N, K, gap] : kDims) {
    for (const bool with_nan : {false, true}) {
      SCOPED_TRACE(cat(N, "x", K, "+", gap, with_nan ? " with NaN" : ""));
      auto x = this->values(N, K);
      if (with_nan) {
        x[N * K - 1] = kInfinity;
        x[N * K / 2] = kNaN;
      }
      const std::int64_t of_row = ceil_div(K, kFp8Block), of_column = ceil_div(N, kFp8Block);
      DeviceMatrix<T> x_dev(this->stream, N, K, gap, x);
      DeviceMatrix<Q> q_NK(this->stream, N, K, gap), q_KN(this->stream, K, N, gap);

      const auto [rows, row_inverse] = cast_in_groups<Q>(
          x, K, of_row * N, [&, N = N](auto n, auto k) { return k / kFp8Block * N + n; });
      const auto [columns, column_inverse] = cast_in_groups<Q>(
          x, K, of_column * K, [&, K = K](auto n, auto k) { return n / kFp8Block * K + k; });
      DeviceMatrix<float> inverse_BN(this->stream, of_row, N),
          inverse_BK(this->stream, of_column, K);
      DeviceVector<std::int64_t> counts(this->stream, std::vector<double>(kFp8Counts));
      const double zero_rows = scales_of_zeros<Q>(row_inverse);
      const double zero_columns = scales_of_zeros<Q>(column_inverse);
      cast_to_fp8_in_pieces<Q, T>(this->stream, q_NK.ref(), inverse_BN.ref(), q_KN.ref(),
                                  inverse_BK.ref(), x_dev.cref(), counts.ref());
      EXPECT_EQ(counts.read(), (std::vector<double>{0, zero_rows + zero_columns}));
      expect_same(q_NK.read(), rows);
      expect_same(inverse_BN.read(), row_inverse);
      expect_same(q_KN.read(), transposed(columns, K));
      expect_same(inverse_BK.read(), column_inverse);
      DeviceMatrix<Q> only_KN(this->stream, K, N, gap);
      cast_to_fp8_in_pieces<Q, T>(this->stream, {}, {}, only_KN.ref(), inverse_BK.ref(),
                                  x_dev.cref(), counts.ref());
      EXPECT_EQ(counts.read(), (std::vector<double>{0, zero_rows + 2 * zero_columns}));
      expect_same(only_KN.read(), transposed(columns, K));

      const auto [squares, inverse] =
          cast_in_groups<Q>(x, K, of_row * of_column,
                            [&](auto n, auto k) { return n / kFp8Block * of_row + k / kFp8Block; });
      DeviceMatrix<float> inverse_NK(this->stream, of_column, of_row, 3);
      DeviceMatrix<float> inverse_KN(this->stream, of_row, of_column, 1);
      cast_to_fp8_in_squares<Q, T>(this->stream, q_NK.ref(), inverse_NK.ref(), q_KN.ref(),
                                   inverse_KN.ref(), x_dev.cref(), counts.ref());
      EXPECT_EQ(counts.read()[1], zero_rows + 2 * zero_columns + scales_of_zeros<Q>(inverse));
      expect_same(q_NK.read(), squares);
      expect_same(q_KN.read(), transposed(squares, K));
      expect_same(inverse_NK.read(), inverse);
      expect_same(inverse_KN.read(), transposed(inverse, of_row));
    }
  }
}

/// Ranks cast their rows of a weight; together they give what a cast of the whole weight gives.
template <class Case>
class Fp8Weights : public test::KernelTest<Case> {
 protected:
  static std::vector<double> values(std::int64_t N, std::int64_t K, bool with_nan) {
    auto x = random_values<float>(N * K, 5);
    for (std::int64_t k = 0; k < K; ++k) x[N / 2 * K + k] = 0;
    if (with_nan) x[N * K / 2] = kNaN;
    return x;
  }
  /// The first row of each rank, and the end of the last one's; not all within whole squares.
  static std::vector<std::int64_t> bounds(std::int64_t N) { return {0, N / 3, N / 3, N / 2, N}; }
  template <class Work>
  static void each_rank(std::int64_t N, const Work& work) {
    const auto begin = bounds(N);
    for (std::size_t rank = 0; rank + 1 < begin.size(); ++rank) {
      work(begin[rank], begin[rank + 1] - begin[rank]);
    }
  }
};
TYPED_TEST_SUITE(Fp8Weights, test::FloatCases, test::CaseName);

TYPED_TEST(Fp8Weights, in_squares) {
  using Q = fp8_e4m3;
  Stream& s = this->stream;
  for (const auto [N, K, gap] : kDims) {
    for (const bool with_nan : {false, true}) {
      SCOPED_TRACE(cat(N, "x", K, "+", gap, with_nan ? " with NaN" : ""));
      const std::int64_t rows = ceil_div(N, kFp8Block), columns = ceil_div(K, kFp8Block);
      const DeviceMatrix<float> x(s, N, K, gap, this->values(N, K, with_nan));
      const DeviceMatrix<Q> want_NK(s, N, K), want_KN(s, K, N);
      const DeviceMatrix<float> want_inverse(s, rows, columns), want_turned(s, columns, rows);
      cast_to_fp8_in_squares<Q, float>(s, want_NK.ref(), want_inverse.ref(), want_KN.ref(),
                                       want_turned.ref(), x.cref(), {});

      const std::vector<double> zeros(rows * columns, 0.0);
      const DeviceMatrix<float> scale(s, rows, columns, 0, zeros), inverse(s, rows, columns);
      const DeviceMatrix<float> turned(s, columns, rows);
      const DeviceMatrix<Q> q_NK(s, N, K, gap);
      this->each_rank(N, [&](std::int64_t first, std::int64_t count) {
        raise_amax_of_squares(s, scale.ref(), row_range(x.cref(), first, count), first);
      });
      const auto flat = [](const Ref<float, 2>& m) { return make_ref(m.data, m.size()); };
      make_weight_scales(s, flat(scale.ref()), flat(inverse.ref()));
      this->each_rank(N, [&](std::int64_t first, std::int64_t count) {
        cast_weights_by_square(s, row_range(q_NK.ref(), first, count),
                               row_range(x.cref(), first, count), scale.cref(), first);
      });
      transpose_scales(s, turned.ref(), inverse.cref());
      expect_same(q_NK.read(), want_NK.read());
      expect_same(inverse.read(), want_inverse.read());
      expect_same(turned.read(), want_turned.read());
    }
  }
}

TYPED_TEST(Fp8Weights, by_row_and_by_column) {
  using Q = fp8_e4m3;
  Stream& s = this->stream;
  for (const auto [N, K, gap] : kDims) {
    for (const bool with_nan : {false, true}) {
      if (N == 1 || K == 1) continue;
      SCOPED_TRACE(cat(N, "x", K, "+", gap, with_nan ? " with NaN" : ""));
      const DeviceMatrix<float> x(s, N, K, gap, this->values(N, K, with_nan));
      const DeviceVector<float> scale_N(s, std::vector<double>(N)), inverse_N(s, N);
      const DeviceVector<float> scale_K(s, std::vector<double>(K)), inverse_K(s, K);
      raise_amax_of_rows_and_columns<float>(s, scale_N.ref(), scale_K.ref(), x.cref());
      const DeviceMatrix<Q> want_NK(s, N, K), want_KN(s, K, N);
      const DeviceVector<float> want_N(s, N), want_K(s, K);
      cast_to_fp8_with_transpose<Q, float>(s, want_NK.ref(), want_KN.ref(), x.cref(),
                                           {scale_N.cref(), want_N.ref()},
                                           {scale_K.cref(), want_K.ref()}, {});

      make_weight_scales(s, scale_N.ref(), inverse_N.ref());
      make_weight_scales(s, scale_K.ref(), inverse_K.ref());
      const DeviceMatrix<Q> by_row(s, N, K, gap), by_column(s, N, K, gap);
      this->each_rank(N, [&](std::int64_t first, std::int64_t count) {
        cast_weights_by_row_and_column(
            s, row_range(by_row.ref(), first, count), row_range(by_column.ref(), first, count),
            row_range(x.cref(), first, count), slice(scale_N.cref(), first, count), scale_K.cref());
      });
      expect_same(by_row.read(), want_NK.read());
      expect_same(transposed(by_column.read(), K), want_KN.read());
      const DeviceMatrix<Q> one(s, N, K, gap);
      cast_weights_by_row_and_column(s, one.ref(), {}, x.cref(), scale_N.cref(), scale_K.cref());
      expect_same(one.read(), want_NK.read());
      cast_weights_by_row_and_column(s, {}, one.ref(), x.cref(), scale_N.cref(), scale_K.cref());
      expect_same(transposed(one.read(), K), want_KN.read());
      expect_same(inverse_N.read(), want_N.read());
      expect_same(inverse_K.read(), want_K.read());
    }
  }
}

}  // namespace
}  // namespace koios
