// Division of indices by a number known before the kernel starts: a multiplication and a shift.
// ref: Granlund & Montgomery 1994, theorem 4.2, for numerators below 2^31.
#pragma once

#include <cstdint>

#include "core/error.hpp"
#include "core/host_device.hpp"

namespace koios::detail {

class Divider {
 public:
  explicit Divider(std::int64_t divisor) : divisor_(static_cast<std::uint32_t>(divisor)) {
    KOIOS_REQUIRE(divisor > 0 && divisor <= kLargest, divisor, " as a divisor of indices");
    while ((std::int64_t{1} << (shift_ - 31)) < divisor) ++shift_;
    multiplier_ = ((std::uint64_t{1} << shift_) + divisor_ - 1) / divisor_;
  }

  static constexpr std::int64_t kLargest = 0x7fffffff;

  KOIOS_HOST_DEVICE std::int64_t quotient(std::int64_t n) const {
    return static_cast<std::int64_t>((static_cast<std::uint32_t>(n) * multiplier_) >> shift_);
  }
  KOIOS_HOST_DEVICE std::int64_t remainder(std::int64_t n) const {
    return n - quotient(n) * divisor_;
  }

 private:
  std::uint32_t divisor_;
  std::uint32_t shift_ = 31;
  std::uint64_t multiplier_ = 0;  // below 2^32
};

}  // namespace koios::detail
