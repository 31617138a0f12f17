// Two ways for every rank's slices into a file whose structure and space are there already. Both
// return this rank's share of each array's checksum and leave the values on the disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "checkpoint/detail/structure.hpp"
#include "checkpoint/saved_array.hpp"
#include "runtime/rank_group.hpp"

namespace koios::checkpoint {

/// Each rank by itself, at the places of the arrays.
std::vector<std::uint64_t> write_direct(const std::filesystem::path& path, const Structure& made,
                                        std::span<const SavedArray> arrays, HostAccess& access);

/// Collective: hyperslabs through HDF5's MPI-IO driver.
std::vector<std::uint64_t> write_parallel_hdf5(const RankGroup& ranks,
                                               const std::filesystem::path& path,
                                               std::span<const SavedArray> arrays,
                                               HostAccess& access);

}  // namespace koios::checkpoint
