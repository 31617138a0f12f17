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

/// Consecutive values of a block that are consecutive in the whole array, and in the file, too.
struct Run {
  std::int64_t in_block = 0;  // where it starts there, in bytes
  Range in_file;              // in bytes
  Range elements;             // of the whole array
};

struct SliceBlock {
  std::size_t array = 0;          // among those that were cut
  Range values;                   // of the slice
  std::int64_t element_size = 0;  // in the file
  std::int64_t array_offset = 0;  // in the file

  std::int64_t bytes() const { return values.count * element_size; }
  std::vector<Run> runs(const SavedArray& of) const;
};

/// How many values of this slice to handle together: whole rows where rows are cut.
std::int64_t block_size(const SavedArray& array);

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
  const std::byte* fetch(const SavedArray& array, const Range& of_slice);

 private:
  HostAccess& access_;
  std::vector<std::byte> converted_;
};

}  // namespace koios::checkpoint
