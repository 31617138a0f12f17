// Blocks of slices from the file in their order, read by a thread a few blocks ahead of their use:
// so checksums, comparisons and copies to a device do not take turns with the disk.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "checkpoint/detail/posix_file.hpp"
#include "checkpoint/detail/slice_blocks.hpp"
#include "checkpoint/saved_array.hpp"

namespace koios::checkpoint {

class ReadAhead {
 public:
  /// What it is given must outlive it.
  ReadAhead(const PosixFile& file, std::span<const SavedArray> arrays,
            std::span<const SliceBlock> blocks);
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;
  ~ReadAhead();

  /// The bytes of the next block, until the next call. Throws what reading them threw.
  std::byte* next();

 private:
  void read_all();
  void announce(const SliceBlock& block) const;
  void read(const SliceBlock& block, std::byte* to) const;
  /// In the thread, before block `index` is read into its slot; false: stop.
  bool wait_for_slot(std::size_t index);

  const PosixFile& file_;
  std::span<const SavedArray> arrays_;
  std::span<const SliceBlock> blocks_;
  std::vector<std::vector<std::byte>> slots_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t read_ = 0;   // blocks that are in their slots
  std::size_t given_ = 0;  // blocks that next() returned; the last of them is in use
  bool stop_ = false;
  std::exception_ptr error_;  // of block read_
  std::thread thread_;        // the last member: it uses the others
};

}  // namespace koios::checkpoint
