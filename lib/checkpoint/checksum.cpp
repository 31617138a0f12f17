#include "checkpoint/checksum.hpp"

#include "core/error.hpp"

namespace koios {

std::uint64_t checksum(const void* elements, std::int64_t element_size, std::int64_t first,
                       std::int64_t count) {
  switch (element_size) {
    case 2:
      return checksum(static_cast<const std::uint16_t*>(elements), first, count);
    case 4:
      return checksum(static_cast<const std::uint32_t*>(elements), first, count);
    case 8:
      return checksum(static_cast<const std::uint64_t*>(elements), first, count);
    default:
      KOIOS_REQUIRE(false, element_size, " bytes");
  }
}

}  // namespace koios
