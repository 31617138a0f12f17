#include "runtime/free_memory.hpp"

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
std::int64_t left_in_groups(const std::filesystem::path& root) {
  std::int64_t least = kUnlimited;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // number:controllers:path
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool is_version1 = cat(',', controllers, ',').find(",memory,") != line.npos;
    if (!controllers.empty() && !is_version1) continue;
    const GroupFiles& files = is_version1 ? kVersion1 : kVersion2;
    auto group = std::filesystem::path(line.substr(second + 1)).relative_path();
    for (; !group.empty(); group = group.parent_path()) {
      least = std::min(least, left_in_group(root / files.mount / group, files));
    }
    least = std::min(least, left_in_group(root / files.mount, files));
  }
  return least;
}

}  // namespace

std::int64_t free_host_bytes(const std::filesystem::path& root) {
  constexpr std::int64_t kNoWord = kUnlimited / 1024;
  const std::int64_t kib = number_of(root / "proc/meminfo", "MemAvailable:", kNoWord);
  return std::min(kib * 1024, left_in_groups(root));
}

std::int64_t resident_host_bytes(const std::filesystem::path& root) {
  return number_of(root / "proc/self/status", "VmRSS:", 0) * 1024;
}

}  // namespace koios
