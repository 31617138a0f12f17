// Element types. bf16 is our own two bytes: Kokkos' bhalf_t is a 4-byte float in host builds. The
// two 8-bit types are in fp8.hpp.
// Each border (MPI, NCCL, cuBLAS, cuDNN, HDF5) owns one switch from DType to its library's type.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/enum_names.hpp"
#include "core/fp8.hpp"
#include "core/host_device.hpp"

namespace koios {

/// bfloat16: the upper half of an IEEE float, rounded to nearest even; NaN stays NaN.
/// Otherwise where randomly() makes it.
struct bf16 {
  std::uint16_t bits;

  bf16() = default;
  KOIOS_HOST_DEVICE explicit bf16(float value) : bits(round(value)) {}
  KOIOS_HOST_DEVICE explicit operator float() const {
    const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
    return __builtin_bit_cast(float, wide);
  }

  /// Rounded to one of its two neighbours, the likelier the nearer it is, so that the mean is the
  /// value: up in magnitude for as many of the 2^16 draws (the lower 16 bits) as it has beyond the
  /// lower neighbour. What is exact stays, NaN and infinities too; finite values stay finite.
  KOIOS_HOST_DEVICE static bf16 randomly(float value, std::uint32_t draw) {
    const auto wide = __builtin_bit_cast(std::uint32_t, value);
    const bool is_nan = (wide & 0x7fffffffU) > 0x7f800000U;
    const std::uint32_t moved = wide + (draw & 0xffffU);
    const bool is_beyond = (moved & 0x7f800000U) == 0x7f800000U;  // or was infinite before
    bf16 rounded;
    rounded.bits = static_cast<std::uint16_t>(is_nan ? ((wide >> 16) | 0x40U)
                                                     : (is_beyond ? wide : moved) >> 16);
    return rounded;
  }

 private:
  KOIOS_HOST_DEVICE static std::uint16_t round(float value) {
    const auto wide = __builtin_bit_cast(std::uint32_t, value);
    const bool is_nan = (wide & 0x7fffffffU) > 0x7f800000U;
    const std::uint32_t half = 0x7fffU + ((wide >> 16) & 1U);
    return static_cast<std::uint16_t>(is_nan ? ((wide >> 16) | 0x40U) : ((wide + half) >> 16));
  }
};
static_assert(sizeof(bf16) == 2);

/// float16 is a type of files only.
enum class DType { float32, float16, bfloat16, float8_e4m3, float8_e5m2, float64, int32, int64 };
constexpr EnumTable<DType, 8> names_of(DType) {
  return {{{DType::float32, "float32"},
           {DType::float16, "float16"},
           {DType::bfloat16, "bfloat16"},
           {DType::float8_e4m3, "float8_e4m3"},
           {DType::float8_e5m2, "float8_e5m2"},
           {DType::float64, "float64"},
           {DType::int32, "int32"},
           {DType::int64, "int64"}}};
}

std::int64_t size_of(DType dtype);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::float32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::bfloat16;
};
template <>
struct DTypeOf<fp8_e4m3> {
  static constexpr DType value = DType::float8_e4m3;
};
template <>
struct DTypeOf<fp8_e5m2> {
  static constexpr DType value = DType::float8_e5m2;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::float64;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::int32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::int64;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<std::remove_const_t<T>>::value;

}  // namespace koios
