#include "checkpoint/checksum.hpp"
#include "checkpoint/detail/posix_file.hpp"
#include "checkpoint/detail/slice_blocks.hpp"
#include "checkpoint/detail/write_slices.hpp"

namespace koios::checkpoint {

std::vector<std::uint64_t> write_direct(const std::filesystem::path& path, const Structure& made,
                                        std::span<const SavedArray> arrays, HostAccess& access) {
  PosixFile file(path, PosixFile::Mode::write);
  FileValues values(access);
  std::vector<std::uint64_t> sums(arrays.size(), 0);
  for (const SliceBlock& block : blocks_of(arrays, made, Slices::owned)) {
    const SavedArray& array = arrays[block.array];
    const std::byte* bytes = values.fetch(array, block.values);
    for (const Run& run : block.runs(array)) {
      const std::byte* at = bytes + run.in_block;
      sums[block.array] += checksum(at, block.element_size, run.elements);
      file.write_at(run.in_file.first, at, run.in_file.count);
    }
  }
  file.sync();
  return sums;
}

}  // namespace koios::checkpoint
