// The two 8-bit floating-point types of training. ref: Micikevicius et al. 2022, FP8 Formats for
// Deep Learning.
//   fp8_e4m3  largest 448, no infinities: PyTorch's float8_e4m3fn, for weights and activations
//   fp8_e5m2  largest 57344, the upper byte of an IEEE half: PyTorch's float8_e5m2, for gradients
// Values are rounded to the nearest, ties to even, and too large ones become the largest, as
// PyTorch's casts do after torchao's clamp. NaN stays NaN with its sign.
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

namespace koios {

/// An 8-bit format: a sign, kExponentBits and kMantissaBits. kInfinity: its code, or one above all.
template <int kExponentBits_, int kMantissaBits_, std::uint32_t kLargestCode_,
          std::uint32_t kInfinity>
struct Fp8Format {
  static constexpr int kMantissaBits = kMantissaBits_;
  static constexpr int kBias = (1 << (kExponentBits_ - 1)) - 1;
  static constexpr std::uint32_t kLargestCode = kLargestCode_;
  static constexpr std::uint32_t kNan = 0x7f;
  static constexpr int kDropped = 23 - kMantissaBits;  // bits of a float's mantissa

  static constexpr std::uint32_t kBiases = 127 - kBias;  // a float's exponent is larger by this
  static constexpr float kLargest =
      __builtin_bit_cast(float, (kLargestCode << kDropped) + (kBiases << 23));
  /// The least number that is not rounded to kLargest but clamped to it.
  static constexpr float kTooLarge = __builtin_bit_cast(
      float, (kLargestCode << kDropped) + (kBiases << 23) + (1U << (kDropped - 1)) +
                 (kLargestCode % 2 == 0 ? 1U : 0U));  // ties go to even codes
  static constexpr float kLeastNormal = __builtin_bit_cast(float, (kBiases + 1) << 23);
  /// 2^23 times the least positive number.
  static constexpr float kRound = __builtin_bit_cast(float, (kBiases + 24 - kMantissaBits) << 23);
  static constexpr float kRebias = __builtin_bit_cast(float, (kBiases + 127) << 23);

  /// Bits is an unsigned integer of 32 bits and Float a float, or vectors of them.
  template <class Bits, class Float>
  KOIOS_HOST_DEVICE static Bits encode(Float value) {
    const Bits wide = __builtin_bit_cast(Bits, value);
    const Bits sign = (wide >> 24) & 0x80U;
    const Float magnitude = __builtin_bit_cast(Float, wide & 0x7fffffffU);
    const Float clamped = magnitude > kLargest ? Float{} + kLargest : magnitude;
    const Bits bits = __builtin_bit_cast(Bits, clamped);
    const Bits half = ((bits >> kDropped) & 1U) + ((1U << (kDropped - 1)) - 1U);
    const Bits normal = ((bits + half) >> kDropped) - (kBiases << kMantissaBits);
    // A sum with 2^23 steps is rounded to a whole number of steps, which is the code.
    const Bits few = __builtin_bit_cast(Bits, clamped + kRound) & 0xffU;
    const Bits code = clamped < kLeastNormal ? few : normal;
    return (value != value ? Bits{} + kNan : code) | sign;
  }

  template <class Bits, class Float>
  KOIOS_HOST_DEVICE static Float decode(Bits code) {
    const Bits magnitude = code & 0x7fU;
    // A product, because it is right for subnormal numbers, too.
    const Float value = __builtin_bit_cast(Float, magnitude << kDropped) * kRebias;
    // Above the largest code lie infinity, where there is one, and NaN.
    const Bits special = (magnitude == kInfinity ? Bits{} + 0x7f800000U : Bits{} + 0x7fc00000U);
    const Bits bits = magnitude > kLargestCode ? special : __builtin_bit_cast(Bits, value);
    return __builtin_bit_cast(Float, bits | ((code & 0x80U) << 24));
  }
};

template <class Format_>
struct Fp8 {
  using Format = Format_;
  std::uint8_t bits;

  Fp8() = default;
  KOIOS_HOST_DEVICE explicit Fp8(float value)
      : bits(static_cast<std::uint8_t>(Format::template encode<std::uint32_t>(value))) {}
  KOIOS_HOST_DEVICE explicit operator float() const {
    return Format::template decode<std::uint32_t, float>(bits);
  }
};

using fp8_e4m3 = Fp8<Fp8Format<4, 3, 0x7e, 0x80>>;
using fp8_e5m2 = Fp8<Fp8Format<5, 2, 0x7b, 0x7c>>;
static_assert(sizeof(fp8_e4m3) == 1 && sizeof(fp8_e5m2) == 1);
static_assert(fp8_e4m3::Format::kLargest == 448 && fp8_e5m2::Format::kLargest == 57344);

template <class T>
inline constexpr bool is_fp8 = false;
template <class Format>
inline constexpr bool is_fp8<Fp8<Format>> = true;

}  // namespace koios
