// This rank's slices, cut into blocks that are handled together: in the order of the arrays, each
// with its place in the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/detail/structure.hpp"
#include "checkpoint/saved_array.hpp"

namespace koios::checkpoint {

/// Consecutive bytes of a block that are consecutive in the file too.
struct ByteRun {
  std::int64_t in_block = 0;  // from the start of the block
  std::int64_t in_file = 0;   // from the start of the file
  std::int64_t bytes = 0;
  std::int64_t element = 0;  // of the whole array, that it starts with
  std::int64_t count = 0;    // of elements
};

struct SliceBlock {
  std::size_t array = 0;              // among those that were cut
  std::int64_t first = 0, count = 0;  // values of the slice
  std::int64_t element_size = 0;      // in the file
  std::int64_t array_offset = 0;      // in the file

  std::int64_t bytes() const { return count * element_size; }
  std::vector<ByteRun> runs(const SavedArray& of) const;
};

enum class Slices { all, owned };
/// UserError where the file has no array of a name.
std::vector<SliceBlock> blocks_of(std::span<const SavedArray> arrays, const Structure& file,
                                  Slices which);
/// Of the largest.
std::int64_t largest_bytes(std::span<const SliceBlock> blocks);

/// Values of slices in the form of the file.
class FileValues {
 public:
  explicit FileValues(HostAccess& access) : access_(access) {}
  /// As they are until the next call.
  const std::byte* fetch(const SavedArray& array, std::int64_t first, std::int64_t count);

 private:
  HostAccess& access_;
  std::vector<std::byte> converted_;
};

}  // namespace koios::checkpoint
