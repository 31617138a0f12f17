#include "checkpoint/checksum.hpp"

#include "core/error.hpp"
#include "core/random.hpp"

namespace koios {
namespace {

/// Bits: the elements' unsigned integer type.
template <class Bits>
std::uint64_t sum_of(const Bits* bits, const Range& elements) {
  constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15ULL;
  const std::uint64_t start = (static_cast<std::uint64_t>(elements.first) + 1) * kStep;
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < elements.count; ++i) {
    sum += mix64(start + static_cast<std::uint64_t>(i) * kStep + bits[i]);
  }
  return sum;
}

}  // namespace

std::uint64_t checksum(const void* values, std::int64_t element_size, const Range& elements) {
  switch (element_size) {
    case 2:
      return sum_of(static_cast<const std::uint16_t*>(values), elements);
    case 4:
      return sum_of(static_cast<const std::uint32_t*>(values), elements);
    case 8:
      return sum_of(static_cast<const std::uint64_t*>(values), elements);
    default:
      KOIOS_REQUIRE(false, element_size, " bytes");
  }
}

}  // namespace koios
