// Counter-based random numbers: the value at (seed, stream, index) is a pure function, so every
// mesh and both backends draw the same number for the same global element.
//   Philox4x32-10: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
//   Normal deviates by inversion: Wichura, algorithm AS 241 (PPND16), Applied Statistics 1988.
// All floating point is IEEE +,-,*,/,sqrt or explicit fma, and no product feeds a plain sum, so a
// compiler has nothing to contract: host and CUDA agree to the last bit (a test).
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "core/host_device.hpp"

namespace koios {

struct Philox4 {
  std::uint32_t word[4];
};

KOIOS_HOST_DEVICE inline Philox4 philox(std::uint64_t key, std::uint64_t counter_low,
                                        std::uint64_t counter_high) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
  Philox4 c{{static_cast<std::uint32_t>(counter_low), static_cast<std::uint32_t>(counter_low >> 32),
             static_cast<std::uint32_t>(counter_high),
             static_cast<std::uint32_t>(counter_high >> 32)}};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = static_cast<std::uint64_t>(0xD2511F53U) * c.word[0];
    const std::uint64_t p1 = static_cast<std::uint64_t>(0xCD9E8D57U) * c.word[2];
    c = {{static_cast<std::uint32_t>(p1 >> 32) ^ c.word[1] ^ k0, static_cast<std::uint32_t>(p1),
          static_cast<std::uint32_t>(p0 >> 32) ^ c.word[3] ^ k1, static_cast<std::uint32_t>(p0)}};
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return c;
}

/// A uniform number in (0, 1), never 0 or 1: the middle of one of 2^52 equal intervals.
KOIOS_HOST_DEVICE inline double uniform_open(std::uint32_t high, std::uint32_t low) {
  const std::uint64_t bits = ((static_cast<std::uint64_t>(high) << 32) | low) >> 12;
  return std::fma(static_cast<double>(bits), 0x1.0p-52, 0x1.0p-53);
}

namespace detail {

/// c[0] + x c[1] + ... by Horner's rule in fma.
template <int N>
KOIOS_HOST_DEVICE inline double polynomial(const double (&c)[N], double x) {
  double sum = c[N - 1];
  for (int i = N - 2; i >= 0; --i) sum = std::fma(sum, x, c[i]);
  return sum;
}

/// Natural logarithm for normal positive x, within a few ulp: x = 2^e m with m in [sqrt(1/2),
/// sqrt(2)), log m = 2 atanh((m-1)/(m+1)). libm's log is not the same function on both backends.
KOIOS_HOST_DEVICE inline double log_portable(double x) {
  auto bits = __builtin_bit_cast(std::uint64_t, x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffffULL) | (1023ULL << 52);
  auto m = __builtin_bit_cast(double, bits);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double t = (m - 1.0) / (m + 1.0);
  const double series[] = {2.0,      2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9, 2.0 / 11,
                           2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21};
  const double log_m = t * polynomial(series, t * t);
  return std::fma(static_cast<double>(exponent), 0.6931471805599453, log_m);
}

}  // namespace detail

/// The p-quantile of N(0, 1), 0 < p < 1; about 1e-15 relative.
KOIOS_HOST_DEVICE inline double normal_quantile(double p) {
  const double q = p - 0.5;
  if (q >= -0.425 && q <= 0.425) {
    const double a[] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                        1.9715909503065514427e+3, 1.3731693765509461125e+4,
                        4.5921953931549871457e+4, 6.7265770927008700853e+4,
                        3.3430575583588128105e+4, 2.5090809287301226727e+3};
    const double b[] = {1.0,
                        4.2313330701600911252e+1,
                        6.8718700749205790830e+2,
                        5.3941960214247511077e+3,
                        2.1213794301586595867e+4,
                        3.9307895800092710610e+4,
                        2.8729085735721942674e+4,
                        5.2264952788528545610e+3};
    const double r = std::fma(-q, q, 0.180625);
    return q * detail::polynomial(a, r) / detail::polynomial(b, r);
  }
  double r = std::sqrt(-detail::log_portable(q < 0 ? p : 1.0 - p));
  double value = 0;
  if (r <= 5.0) {
    const double c[] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                        5.76949722146069140550e0,  3.64784832476320460504e0,
                        1.27045825245236838258e0,  2.41780725177450611770e-1,
                        2.27238449892691845833e-2, 7.74545014278341407640e-4};
    const double d[] = {1.0,
                        2.05319162663775882187e0,
                        1.67638483018380384940e0,
                        6.89767334985100004550e-1,
                        1.48103976427480074590e-1,
                        1.51986665636164571966e-2,
                        5.47593808499534494600e-4,
                        1.05075007164441684324e-9};
    r -= 1.6;
    value = detail::polynomial(c, r) / detail::polynomial(d, r);
  } else {
    const double e[] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                        1.78482653991729133580e0,  2.96560571828504891230e-1,
                        2.65321895265761230930e-2, 1.24266094738807843860e-3,
                        2.71155556874348757815e-5, 2.01033439929228813265e-7};
    const double f[] = {1.0,
                        5.99832206555887937690e-1,
                        1.36929880922735805310e-1,
                        1.48753612908506148525e-2,
                        7.86869131145613259100e-4,
                        1.84631831751005468180e-5,
                        1.42151175831644588870e-7,
                        2.04426310338993978564e-15};
    r -= 5.0;
    value = detail::polynomial(e, r) / detail::polynomial(f, r);
  }
  return q < 0 ? -value : value;
}

/// FNV-1a of a name: the generator's stream for that parameter, the same everywhere.
constexpr std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  return hash;
}

/// The hash of a name that `zeros` zero bytes follow, from that of the name.
constexpr std::uint64_t stream_of_longer(std::uint64_t hash, std::uint64_t zeros) {
  std::uint64_t power = 0x100000001b3ULL;
  for (; zeros > 0; zeros /= 2, power *= power) {
    if (zeros % 2 != 0) hash *= power;
  }
  return hash;
}

/// A bijective mixing of 64 bits (splitmix64's finalizer).
KOIOS_HOST_DEVICE constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// What draws of this optimizer step depend on beside the element. Steps of a run never share it.
constexpr std::uint64_t key_of_step(std::uint64_t seed, std::int64_t step) {
  return mix64(mix64(seed) + static_cast<std::uint64_t>(step));
}

/// 32 random bits for each of the elements 4 * quad ... 4 * quad + 3 of a stream.
KOIOS_HOST_DEVICE inline Philox4 element_draws(std::uint64_t key, std::uint64_t stream,
                                               std::uint64_t quad) {
  return philox(key, quad, stream);
}
/// Of one element.
KOIOS_HOST_DEVICE inline std::uint32_t element_draw(std::uint64_t key, std::uint64_t stream,
                                                    std::uint64_t index) {
  const Philox4 quad = element_draws(key, stream, index / 4);
  const std::uint64_t k = index % 4;
  const std::uint32_t low = k == 0 ? quad.word[0] : quad.word[1];
  const std::uint32_t high = k == 2 ? quad.word[2] : quad.word[3];
  return k < 2 ? low : high;
}

/// Element `index` of a N(0, 1) sequence, redrawn until it lies within +-cut.
KOIOS_HOST_DEVICE inline double normal_at(std::uint64_t seed, std::uint64_t stream,
                                          std::uint64_t index, double cut) {
  for (std::uint64_t attempt = 0;; ++attempt) {
    const Philox4 bits = philox(seed, index, stream + attempt);
    for (int pair = 0; pair < 4; pair += 2) {
      const double x = normal_quantile(uniform_open(bits.word[pair], bits.word[pair + 1]));
      if (x >= -cut && x <= cut) return x;
    }
  }
}

}  // namespace koios
