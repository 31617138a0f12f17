#include "checkpoint/catalogue.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "core/error.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step_";
constexpr const char* kSuffix = ".h5";
constexpr const char* kPartial = ".partial";

std::string stem(std::int64_t step) {
  char text[32];
  std::snprintf(text, sizeof text, "%s%08lld", kPrefix, static_cast<long long>(step));
  return text;
}

/// The step in "step_00000100.h5", or -1.
std::int64_t step_of(const std::string& name) {
  const std::string prefix = kPrefix;
  const std::string suffix = kSuffix;
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return -1;
  std::int64_t step = -1;
  const char* begin = name.data() + prefix.size();
  const char* end = name.data() + name.size() - suffix.size();
  const auto [stopped, error] = std::from_chars(begin, end, step);
  return error == std::errc() && stopped == end ? step : -1;
}

}  // namespace

fs::path checkpoint_path(const fs::path& folder, std::int64_t step) {
  return folder / (stem(step) + kSuffix);
}

fs::path weights_path(const fs::path& folder, std::int64_t step) {
  return folder / (stem(step) + "_weights" + kSuffix);
}

std::vector<CheckpointEntry> list_checkpoints(const fs::path& folder) {
  std::vector<CheckpointEntry> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::int64_t step = step_of(entry.path().filename().string());
    if (step >= 0) found.push_back({step, entry.path()});
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.step > b.step; });
  return found;
}

std::vector<std::string> remove_partial(const fs::path& folder) {
  std::vector<std::string> removed;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(std::string(kSuffix) + kPartial)) continue;
    if (fs::remove(entry.path(), error)) removed.push_back(name);
  }
  return removed;
}

std::vector<CheckpointEntry> superfluous(const std::vector<CheckpointEntry>& newest_first,
                                         std::int64_t newest, const Retention& retention) {
  std::vector<CheckpointEntry> out;
  if (retention.keep_latest_k == 0) return out;
  std::int64_t kept = 0;
  for (const CheckpointEntry& entry : newest_first) {
    if (entry.step > newest) continue;
    const bool is_kept_for_good =
        retention.keep_every > 0 && entry.step % retention.keep_every == 0;
    if (++kept <= retention.keep_latest_k || is_kept_for_good) continue;
    out.push_back(entry);
  }
  return out;
}

}  // namespace koios
