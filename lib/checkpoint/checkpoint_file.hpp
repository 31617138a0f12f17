// One checkpoint file, written and read by all ranks together. docs/checkpoints.md is the format.
//
// Writing: rank 0 makes PATH.partial with HDF5 (groups, attributes, places of all arrays) and
// reserves its space; every rank writes its slices at their places, brings them to the disk, reads
// them back and compares; rank 0 puts in the checksums, reads the whole structure back, compares,
// and renames. A failure on any rank is thrown on all, and no file is left.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/head.hpp"
#include "checkpoint/ranks.hpp"
#include "checkpoint/saved_array.hpp"

namespace koios {

/// How files are written, for the start of a run: "pwrite by each rank, HDF5 1.10.8 by rank 0".
std::string describe_io();

struct SaveReport {
  std::int64_t bytes = 0;  // of the file
  double write_s = 0;      // making the file, writing and bringing to the disk
  double verify_s = 0;     // reading back, comparing, renaming
};

/// Where large arrays start, in bytes; docs/checkpoints.md says what was measured.
inline constexpr std::int64_t kArrayAlignment = std::int64_t{64} << 10;

/// Collective. `head` counts on rank 0; `arrays` are the same names in the same order everywhere.
SaveReport write_checkpoint(const CheckpointRanks& ranks, const std::filesystem::path& path,
                            const CheckpointHead& head, std::span<const SavedArray> arrays,
                            HostAccess& access, std::int64_t alignment = kArrayAlignment);

class CheckpointReader {
 public:
  /// Collective: opens the file and verifies all but the values of large arrays.
  CheckpointReader(const CheckpointRanks& ranks, std::filesystem::path path);
  CheckpointReader(CheckpointReader&&) noexcept;
  ~CheckpointReader();

  const CheckpointHead& head() const;
  /// Collective: fills the slices and verifies the checksums of these arrays. Together the owners'
  /// slices must cover each array once. Stored types are converted to float32.
  void read(std::span<const SavedArray> arrays, HostAccess& access) const;

 private:
  struct Content;
  const CheckpointRanks& ranks_;
  std::filesystem::path path_;
  std::unique_ptr<Content> content_;
};

}  // namespace koios
