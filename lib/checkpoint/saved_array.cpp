#include "checkpoint/saved_array.hpp"

#include <algorithm>

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

std::vector<std::int64_t> SavedArray::shape() const {
  if (is_vector) return {rows};
  return {rows, cols};
}

std::vector<Run> runs_of(const SavedArray& array, std::int64_t first, std::int64_t count) {
  if (count == 0) return {};
  const std::int64_t start = array.first_row * array.cols + array.first_col;
  if (array.local_cols == array.cols) return {{first, start + first, count}};
  std::vector<Run> runs;
  while (count > 0) {
    const std::int64_t row = first / array.local_cols;
    const std::int64_t col = first % array.local_cols;
    const std::int64_t length = std::min(count, array.local_cols - col);
    runs.push_back({first, start + row * array.cols + col, length});
    first += length;
    count -= length;
  }
  return runs;
}

std::int64_t block_size(const SavedArray& array) {
  const bool is_empty = array.local_cols == 0;  // more ranks than columns
  if (is_empty || array.local_cols == array.cols || array.local_cols > HostAccess::kBlock) {
    return HostAccess::kBlock;
  }
  return HostAccess::kBlock / array.local_cols * array.local_cols;
}

}  // namespace koios
