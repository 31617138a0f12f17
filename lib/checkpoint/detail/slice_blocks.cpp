#include "checkpoint/detail/slice_blocks.hpp"

#include <algorithm>

#include "checkpoint/convert.hpp"

namespace koios::checkpoint {

std::vector<ByteRun> SliceBlock::runs(const SavedArray& of) const {
  std::vector<ByteRun> out;
  for (const Run& run : runs_of(of, first, count)) {
    out.push_back({(run.local_first - first) * element_size,
                   array_offset + run.global_first * element_size, run.count * element_size,
                   run.global_first, run.count});
  }
  return out;
}

std::vector<SliceBlock> blocks_of(std::span<const SavedArray> arrays, const Structure& file,
                                  Slices which) {
  std::vector<SliceBlock> blocks;
  for (std::size_t a = 0; a < arrays.size(); ++a) {
    const SavedArray& array = arrays[a];
    const StoredArray& stored = file.find(array.name);
    if (which == Slices::owned && !array.is_owner) continue;
    const std::int64_t step = block_size(array);
    for (std::int64_t first = 0; first < array.local_size(); first += step) {
      const std::int64_t count = std::min(step, array.local_size() - first);
      blocks.push_back({a, first, count, size_of(stored.type), stored.offset});
    }
  }
  return blocks;
}

std::int64_t largest_bytes(std::span<const SliceBlock> blocks) {
  std::int64_t largest = 0;
  for (const SliceBlock& block : blocks) largest = std::max(largest, block.bytes());
  return largest;
}

const std::byte* FileValues::fetch(const SavedArray& array, std::int64_t first,
                                   std::int64_t count) {
  const float* values = access_.fetch(array.data + first, count);
  if (array.type == FileType::float32) return reinterpret_cast<const std::byte*>(values);
  converted_.resize(static_cast<std::size_t>(count * size_of(array.type)));
  convert_to(array.type, converted_.data(), values, count);
  return converted_.data();
}

}  // namespace koios::checkpoint
