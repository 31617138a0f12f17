#include "core/free_memory.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>

#include "core/error.hpp"

namespace koios {
namespace {

constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

/// The number behind `key` in lines of a key and a number; `otherwise` where there is none.
std::int64_t number_of(const std::filesystem::path& file, std::string_view key,
                       std::int64_t otherwise) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string name;
    std::int64_t number = 0;
    if (fields >> name >> number && name == key) return number;
  }
  return otherwise;
}

/// Where a version of control groups has its numbers.
struct GroupFiles {
  const char* mount;
  const char* limit;
  const char* used;
  const char* prefix;  // of the numbers in memory.stat that count the groups below, too
};
constexpr GroupFiles kVersion1 = {"sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                  "memory.usage_in_bytes", "total_"};
constexpr GroupFiles kVersion2 = {"sys/fs/cgroup", "memory.max", "memory.current", ""};

FreeMemory smaller(const FreeMemory& a, const FreeMemory& b) { return b.bytes < a.bytes ? b : a; }

std::int64_t left_in_group(const std::filesystem::path& group, const GroupFiles& files) {
  std::int64_t limit = 0;
  std::int64_t used = 0;
  // The limit may be the word "max".
  if (!(std::ifstream(group / files.limit) >> limit)) return kUnlimited;
  if (!(std::ifstream(group / files.used) >> used)) return kUnlimited;
  std::int64_t cache = 0;
  for (const char* kind : {"active_file", "inactive_file"}) {
    cache += number_of(group / "memory.stat", cat(files.prefix, kind), 0);
  }
  return std::max<std::int64_t>(0, limit - used + std::min(cache, used));
}

/// The least that is left in the groups of this process, each of which lies in the one above.
FreeMemory left_in_groups(const std::filesystem::path& root) {
  FreeMemory least{kUnlimited, ""};
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // number:controllers:path
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool is_version1 = cat(',', controllers, ',').find(",memory,") != line.npos;
    if (!controllers.empty() && !is_version1) continue;
    const GroupFiles& files = is_version1 ? kVersion1 : kVersion2;
    const auto count = [&](const std::filesystem::path& group) {
      least = smaller(least,
                      {left_in_group(root / group, files),
                       cat("the control group's memory (/", (group / files.limit).string(), ")")});
    };
    auto group = std::filesystem::path(line.substr(second + 1)).relative_path();
    for (; !group.empty(); group = group.parent_path()) count(files.mount / group);
    count(files.mount);
  }
  return least;
}

/// Where the kernel promises no more memory than it has (vm.overcommit_memory = 2).
FreeMemory left_to_promise(const std::filesystem::path& root) {
  int policy = 0;
  std::ifstream(root / "proc/sys/vm/overcommit_memory") >> policy;
  const std::filesystem::path memory = root / "proc/meminfo";
  const std::int64_t limit_kib = number_of(memory, "CommitLimit:", 0);
  if (policy != 2 || limit_kib == 0) return {kUnlimited, ""};
  return {std::max<std::int64_t>(0, limit_kib - number_of(memory, "Committed_AS:", 0)) * 1024,
          "what the kernel promises (vm.overcommit_memory = 2)"};
}

/// What one of the limits of this process leaves, of which it has `used`.
FreeMemory left_of_limit(const std::filesystem::path& root, std::string_view line_begin,
                         std::string_view used, const char* what, const char* option) {
  std::ifstream limits(root / "proc/self/limits");
  for (std::string line; std::getline(limits, line);) {
    std::int64_t limit = 0;  // or the word "unlimited"
    if (!line.starts_with(line_begin)) continue;
    if (!(std::istringstream(line.substr(line_begin.size())) >> limit)) break;
    const std::int64_t kib = number_of(root / "proc/self/status", used, 0);
    return {std::max<std::int64_t>(0, limit - kib * 1024),
            cat("the ", what, " that ", option, " allows (", limit >> 20, " MiB)")};
  }
  return {kUnlimited, ""};
}

}  // namespace

FreeMemory free_host_memory(const std::filesystem::path& root) {
  constexpr std::int64_t kNoWord = kUnlimited / 1024;
  const std::int64_t kib = number_of(root / "proc/meminfo", "MemAvailable:", kNoWord);
  return smaller(smaller({kib * 1024, "host memory"}, left_in_groups(root)), left_to_promise(root));
}

FreeMemory free_process_memory(const std::filesystem::path& root) {
  const FreeMemory own =
      smaller(left_of_limit(root, "Max address space", "VmSize:", "address space", "ulimit -v"),
              left_of_limit(root, "Max data size", "VmData:", "data", "ulimit -d"));
  return smaller(free_host_memory(root), own);
}

std::int64_t resident_host_bytes(const std::filesystem::path& root) {
  return number_of(root / "proc/self/status", "VmRSS:", 0) * 1024;
}

}  // namespace koios
