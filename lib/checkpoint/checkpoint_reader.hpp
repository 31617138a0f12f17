// Reads what checkpoint_file.hpp wrote, by any ranks, cut in any way, and verifies all of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/head.hpp"
#include "checkpoint/saved_array.hpp"
#include "runtime/rank_group.hpp"

namespace koios {

class CheckpointReader {
 public:
  /// Collective: opens the file and verifies all but the values of large arrays.
  CheckpointReader(const RankGroup& ranks, std::filesystem::path path);
  CheckpointReader(CheckpointReader&&) noexcept;
  ~CheckpointReader();

  const CheckpointHead& head() const;
  /// Of an array in the file; UserError where there is none of that name.
  DType type_of(const std::string& name) const;
  /// Collective: fills the slices and verifies the checksums of these arrays. Together the owners'
  /// slices must cover each array once. Stored types are converted to those in memory.
  void read(std::span<const SavedArray> arrays, HostAccess& access) const;

 private:
  struct Content;
  void read_slices(std::span<const SavedArray> arrays, HostAccess& access,
                   std::vector<std::uint64_t>& sums) const;

  const RankGroup& ranks_;
  std::filesystem::path path_;
  std::unique_ptr<Content> content_;
};

}  // namespace koios
