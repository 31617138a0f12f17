#include "checkpoint/catalogue.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "checkpoint/detail/posix_file.hpp"
#include "core/error.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step_";
constexpr const char* kSuffix = ".h5";
constexpr const char* kWeightsSuffix = "_weights.h5";
constexpr const char* kPartial = ".partial";

std::string stem(std::int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

/// The step in "step_00000100.h5" (with this suffix), or -1.
std::int64_t step_of(const std::string& name, const std::string& suffix) {
  const std::string prefix = kPrefix;
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return -1;
  std::int64_t step = -1;
  const char* begin = name.data() + prefix.size();
  const char* end = name.data() + name.size() - suffix.size();
  const auto [stopped, error] = std::from_chars(begin, end, step);
  return error == std::errc() && stopped == end ? step : -1;
}

/// Everything in the folder; nothing where there is none.
std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    found.push_back(at->path());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw UserError(cat("cannot list the folder ", folder.string(), ": ", error.message()));
  }
  return found;
}

std::vector<CheckpointEntry> newest_first(const fs::path& folder, const std::string& suffix) {
  std::vector<CheckpointEntry> found;
  for (const fs::path& path : entries(folder)) {
    const std::int64_t step = step_of(path.filename().string(), suffix);
    if (step >= 0) found.push_back({step, path});
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.step > b.step; });
  return found;
}

}  // namespace

void make_checkpoint_folder(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> missing;
  for (fs::path at = fs::absolute(folder); !fs::exists(at, error); at = at.parent_path()) {
    missing.push_back(at);
  }
  fs::create_directories(folder, error);
  std::error_code unknown;  // of a folder below one that may not be entered
  if (!fs::is_directory(folder, unknown)) {
    throw UserError(cat("[checkpoint] folder ", folder.string(),
                        " cannot be made: ", error ? error.message() : "a file is in its place"));
  }
  for (const fs::path& made : missing) checkpoint::sync_folder(made.parent_path());
}

fs::path checkpoint_path(const fs::path& folder, std::int64_t step) {
  return folder / (stem(step) + kSuffix);
}

fs::path weights_path(const fs::path& folder, std::int64_t step) {
  return folder / (stem(step) + kWeightsSuffix);
}

std::vector<CheckpointEntry> list_checkpoints(const fs::path& folder) {
  return newest_first(folder, kSuffix);
}

std::vector<CheckpointEntry> list_weights(const fs::path& folder) {
  return newest_first(folder, kWeightsSuffix);
}

std::vector<std::string> remove_partial(const fs::path& folder) {
  std::vector<std::string> removed;
  for (const fs::path& path : entries(folder)) {
    const std::string name = path.filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(std::string(kSuffix) + kPartial)) continue;
    std::error_code error;
    if (fs::remove(path, error)) removed.push_back(name);
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
