// How much host memory this process may still take, as Linux tells it, and which limit is the next.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace koios {

struct FreeMemory {
  std::int64_t bytes = 0;
  std::string of;  // what they are part of, in words: "host memory"
};

/// What the processes of this node share: what the kernel calls available; less where a control
/// group (a container's, a batch job's) limits them: what the group has left, with the file cache
/// that it would give back. root: where /proc and /sys are (a test brings its own).
FreeMemory free_host_memory(const std::filesystem::path& root = "/");

/// The same, or what this process's own limits leave (ulimit -v, ulimit -d), whichever is less.
FreeMemory free_process_memory(const std::filesystem::path& root = "/");

/// What this process has in memory now; 0 where Linux does not tell.
std::int64_t resident_host_bytes(const std::filesystem::path& root = "/");

}  // namespace koios
