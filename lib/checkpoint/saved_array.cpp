#include "checkpoint/saved_array.hpp"

#include "core/error.hpp"

namespace koios {

std::int64_t size_of(FileType type) {
  switch (type) {
    case FileType::float32:
      return 4;
    case FileType::float16:
    case FileType::bfloat16:
      return 2;
    case FileType::float64:
    case FileType::int64:
      return 8;
  }
  KOIOS_REQUIRE(false, "unknown type");
}

std::string_view to_string(FileType type) {
  switch (type) {
    case FileType::float32:
      return "float32";
    case FileType::float16:
      return "float16";
    case FileType::bfloat16:
      return "bfloat16";
    case FileType::float64:
      return "float64";
    case FileType::int64:
      return "int64";
  }
  KOIOS_REQUIRE(false, "unknown type");
}

FileType file_type(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return FileType::float32;
    case DType::bfloat16:
      return FileType::bfloat16;
    default:
      KOIOS_REQUIRE(false, "values are not saved from ", to_string(dtype));
  }
}

std::vector<std::int64_t> SavedArray::shape() const {
  if (is_vector) return {rows};
  return {rows, cols};
}

}  // namespace koios
