#include "checkpoint/detail/read_ahead.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace koios::checkpoint {
namespace {

/// Blocks in memory; with blocks of 1 MiB few enough for a core's cache, and enough to bridge what
/// the user of one block may be held up.
constexpr std::size_t kSlots = 8;
/// Blocks that the disk is asked for ahead of reading them. The system's own reading ahead starts
/// small again wherever a slice ends.
constexpr std::size_t kAnnounced = 16;

}  // namespace

ReadAhead::ReadAhead(const PosixFile& file, std::span<const SavedArray> arrays,
                     std::span<const SliceBlock> blocks)
    : file_(file),
      arrays_(arrays),
      blocks_(blocks),
      slots_(std::min(kSlots, blocks.size()),
             std::vector<std::byte>(static_cast<std::size_t>(largest_bytes(blocks)))),
      thread_([this] { read_all(); }) {}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::byte* ReadAhead::next() {
  std::unique_lock lock(mutex_);
  KOIOS_REQUIRE(given_ < blocks_.size(), "all blocks were given");
  const std::size_t index = given_++;
  changed_.notify_all();  // the block before is free
  changed_.wait(lock, [&] { return read_ > index || error_; });
  if (read_ <= index) std::rethrow_exception(error_);
  return slots_[index % slots_.size()].data();
}

void ReadAhead::read_all() {
  try {
    for (std::size_t i = 0; i < std::min(kAnnounced, blocks_.size()); ++i) announce(blocks_[i]);
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      if (i + kAnnounced < blocks_.size()) announce(blocks_[i + kAnnounced]);
      if (!wait_for_slot(i)) return;
      read(blocks_[i], slots_[i % slots_.size()].data());
      const std::lock_guard lock(mutex_);
      read_ = i + 1;
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

bool ReadAhead::wait_for_slot(std::size_t index) {
  std::unique_lock lock(mutex_);
  // Block given_ - 1 is in use, those before it are not any more.
  const auto is_free = [&] { return index < std::max<std::size_t>(given_, 1) - 1 + slots_.size(); };
  changed_.wait(lock, [&] { return stop_ || is_free(); });
  return !stop_;
}

void ReadAhead::announce(const SliceBlock& block) const {
  // With what lies between its runs, which is other ranks'.
  const std::vector<Run> runs = block.runs(arrays_[block.array]);
  const std::int64_t begin = runs.front().in_file.first;
  file_.will_need(begin, runs.back().in_file.end() - begin);
}

void ReadAhead::read(const SliceBlock& block, std::byte* to) const {
  for (const Run& run : block.runs(arrays_[block.array])) {
    file_.read_at(run.in_file.first, to + run.in_block, run.in_file.count);
  }
}

}  // namespace koios::checkpoint
