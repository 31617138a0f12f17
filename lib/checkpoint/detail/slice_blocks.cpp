#include "checkpoint/detail/slice_blocks.hpp"

#include <algorithm>

#include "checkpoint/convert.hpp"

namespace koios::checkpoint {

std::vector<Run> SliceBlock::runs(const SavedArray& of) const {
  const auto& [rows, cols] = of.here;
  std::vector<Run> runs;
  std::int64_t first = values.first;
  while (first < values.end()) {
    const std::int64_t row = first / cols.count;
    const std::int64_t col = first % cols.count;
    // Whole rows follow one another in the array, too.
    const std::int64_t end = cols.count == of.cols ? values.end() : (row + 1) * cols.count;
    const std::int64_t count = std::min(end, values.end()) - first;
    const Range elements = {(rows.first + row) * of.cols + cols.first + col, count};
    runs.push_back({(first - values.first) * element_size,
                    {array_offset + elements.first * element_size, count * element_size},
                    elements});
    first += count;
  }
  return runs;
}

std::int64_t block_size(const SavedArray& array) {
  const std::int64_t cols = array.here.cols.count;
  const bool is_empty = cols == 0;  // more ranks than columns
  if (is_empty || cols == array.cols || cols > HostAccess::kBlock) return HostAccess::kBlock;
  return HostAccess::kBlock / cols * cols;
}

std::vector<SliceBlock> blocks_of(std::span<const SavedArray> arrays, const Structure& file,
                                  Slices which) {
  std::vector<SliceBlock> blocks;
  for (std::size_t a = 0; a < arrays.size(); ++a) {
    const SavedArray& array = arrays[a];
    const StoredArray& stored = file.find(array.name);
    if (which == Slices::owned && !array.is_owner) continue;
    for (const Range& values : in_pieces({0, array.here.size()}, block_size(array))) {
      blocks.push_back({a, values, size_of(stored.type), stored.offset});
    }
  }
  return blocks;
}

std::int64_t largest_bytes(std::span<const SliceBlock> blocks) {
  std::int64_t largest = 0;
  for (const SliceBlock& block : blocks) largest = std::max(largest, block.bytes());
  return largest;
}

const std::byte* FileValues::fetch(const SavedArray& array, const Range& of_slice) {
  const void* values = access_.fetch(slice(array.values, of_slice));
  const DType type = array.values.dtype;
  if (array.type == type) return static_cast<const std::byte*>(values);
  converted_.resize(static_cast<std::size_t>(of_slice.count * size_of(array.type)));
  convert(array.type, converted_.data(), type, values, of_slice.count);
  return converted_.data();
}

}  // namespace koios::checkpoint
