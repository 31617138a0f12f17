#include "checkpoint/convert.hpp"

#include <bit>
#include <cstring>

#include "core/dtype.hpp"
#include "core/error.hpp"

namespace koios {

std::uint16_t to_float16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return sign | 0x7e00U;      // NaN
  if (magnitude >= 0x47800000U) return sign | 0x7c00U;     // 2^16 and more, infinity
  if (magnitude < 0x33000000U) return sign;                // below half the least subnormal
  const int exponent = static_cast<int>(magnitude >> 23);  // of float32, biased by 127
  std::uint32_t mantissa = (magnitude & 0x7fffffU) | 0x800000U;
  // 10 of the 24 bits stay, fewer where the result is subnormal (exponent below 2^-14).
  const int dropped = exponent >= 113 ? 13 : 126 - exponent;
  const std::uint32_t half = 1U << (dropped - 1);
  const std::uint32_t odd = (mantissa >> dropped) & 1U;
  mantissa = (mantissa + half - 1 + odd) >> dropped;
  // Adding the mantissa with its leading bit lets a carry move into the exponent.
  const std::uint32_t base = exponent >= 113 ? static_cast<std::uint32_t>(exponent - 113) << 10 : 0;
  return static_cast<std::uint16_t>(sign | (base + mantissa));
}

float from_float16(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fU;
  const std::uint32_t mantissa = bits & 0x3ffU;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
  const std::uint32_t wide = exponent == 31 ? 0xffU : exponent + 112;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

namespace {

/// put(i, value) for every element.
template <class Put>
void each_value(DType type, const void* in, std::int64_t count, const Put& put) {
  const auto all = [&]<class T>(const T* values, const auto& widen) {
    for (std::int64_t i = 0; i < count; ++i) put(i, widen(values[i]));
  };
  switch (type) {
    case DType::float32:
      return all(static_cast<const float*>(in), [](float value) { return value; });
    case DType::float16:
      return all(static_cast<const std::uint16_t*>(in), from_float16);
    case DType::bfloat16:
      return all(static_cast<const bf16*>(in),
                 [](bf16 value) { return static_cast<float>(value); });
    default:
      KOIOS_REQUIRE(false, "values are not saved as ", to_string(type));
  }
}

}  // namespace

void convert(DType to, void* out, DType from, const void* in, std::int64_t count) {
  if (to == from) {
    std::memcpy(out, in, static_cast<std::size_t>(count * size_of(to)));
    return;
  }
  switch (to) {
    case DType::float32:
      return each_value(from, in, count, [out](std::int64_t i, float value) {
        static_cast<float*>(out)[i] = value;
      });
    case DType::float16:
      return each_value(from, in, count, [out](std::int64_t i, float value) {
        static_cast<std::uint16_t*>(out)[i] = to_float16(value);
      });
    case DType::bfloat16:
      return each_value(from, in, count, [out](std::int64_t i, float value) {
        static_cast<bf16*>(out)[i] = bf16(value);
      });
    default:
      KOIOS_REQUIRE(false, "values are not saved as ", to_string(to));
  }
}

}  // namespace koios
