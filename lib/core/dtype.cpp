#include "core/dtype.hpp"

#include "core/error.hpp"

namespace koios {

std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float8_e4m3:
    case DType::float8_e5m2:
      return 1;
    case DType::float16:
    case DType::bfloat16:
      return 2;
    case DType::float32:
    case DType::int32:
      return 4;
    case DType::float64:
    case DType::int64:
      return 8;
  }
  KOIOS_REQUIRE(false, "unknown dtype");
}

}  // namespace koios
