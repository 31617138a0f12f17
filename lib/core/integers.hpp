// Integer helpers for sizes: exact division, rounding up, checked narrowing.
#pragma once

#include <concepts>
#include <cstdint>

#include "core/error.hpp"
#include "core/host_device.hpp"

namespace koios {

KOIOS_HOST_DEVICE constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

KOIOS_HOST_DEVICE constexpr std::int64_t round_up(std::int64_t a, std::int64_t multiple) {
  return ceil_div(a, multiple) * multiple;
}

inline std::int64_t div_exact(std::int64_t a, std::int64_t b) {
  KOIOS_REQUIRE(b != 0 && a % b == 0, a, " is not a multiple of ", b);
  return a / b;
}

template <std::integral To, std::integral From>
To narrow(From value) {
  const To result = static_cast<To>(value);
  KOIOS_REQUIRE(static_cast<From>(result) == value && (result < To{}) == (value < From{}), value,
                " does not fit");
  return result;
}

}  // namespace koios
