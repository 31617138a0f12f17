// How much host memory this process may still take, as Linux tells it.
#pragma once

#include <cstdint>
#include <filesystem>

namespace koios {

/// What the kernel calls available; less where a control group (a container's, a batch job's)
/// limits this process: what the group has left, with the file cache that it would give back. root:
/// where /proc and /sys are (a test brings its own).
std::int64_t free_host_bytes(const std::filesystem::path& root = "/");

/// What this process has in memory now; 0 where Linux does not tell.
std::int64_t resident_host_bytes(const std::filesystem::path& root = "/");

}  // namespace koios
