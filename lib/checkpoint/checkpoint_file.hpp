// One checkpoint file, written by all ranks together. docs/checkpoints.md is the format.
//
// Rank 0 reserves the space of PATH.partial and puts in what HDF5 made in memory (groups,
// attributes, places of all arrays); every rank writes its slices at their places, brings them to
// the disk, reads them back and compares; rank 0 puts in the checksums, reads the whole structure
// back, compares, and renames. A failure on any rank is thrown on all, and no file is left.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/head.hpp"
#include "checkpoint/saved_array.hpp"
#include "core/choices.hpp"
#include "runtime/rank_group.hpp"

namespace koios {

/// For the start of a run: "pwrite by each rank, HDF5 1.10.8 by rank 0", or the component of MPI-IO
/// that takes files in `folder`.
std::string describe_io(WriteMethod method, const std::filesystem::path& folder);

struct SaveReport {
  std::int64_t bytes = 0;  // of the file
  double write_s = 0;      // making the file, writing and bringing to the disk
  double verify_s = 0;     // reading back, comparing, renaming
};

/// docs/checkpoints.md says what was measured.
struct WriteOptions {
  WriteMethod method = WriteMethod::direct;
  std::int64_t alignment = std::int64_t{64} << 10;  // of where large arrays start, in bytes
};

/// Collective. `head` counts on rank 0; `arrays` are the same names in the same order everywhere.
SaveReport write_checkpoint(const RankGroup& ranks, const std::filesystem::path& path,
                            const CheckpointHead& head, std::span<const SavedArray> arrays,
                            HostAccess& access, const WriteOptions& options = {});

}  // namespace koios
