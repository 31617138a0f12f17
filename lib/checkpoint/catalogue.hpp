// The checkpoints of a run, read off their folder: the name is the only truth. Rank 0 only, inside
// RankGroup::on_root: a folder that cannot be read is a UserError.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace koios {

struct CheckpointEntry {
  std::int64_t step = 0;
  std::filesystem::path path;

  bool operator==(const CheckpointEntry&) const = default;
};

/// Makes it where it is missing, so that it is still there after a power cut.
void make_checkpoint_folder(const std::filesystem::path& folder);

/// folder/step_00000100.h5, and folder/step_00000100_weights.h5.
std::filesystem::path checkpoint_path(const std::filesystem::path& folder, std::int64_t step);
std::filesystem::path weights_path(const std::filesystem::path& folder, std::int64_t step);

/// Complete checkpoints, newest first. Anything else in the folder is passed over.
std::vector<CheckpointEntry> list_checkpoints(const std::filesystem::path& folder);

/// The same of the files of weights alone.
std::vector<CheckpointEntry> list_weights(const std::filesystem::path& folder);

/// Removes what an interrupted save left; returns the names.
std::vector<std::string> remove_partial(const std::filesystem::path& folder);

struct Retention {
  std::int64_t keep_latest_k = 0;  // 0: all
  std::int64_t keep_every = 0;     // steps; multiples are never removed; 0: none beside these
};
/// What may go once `newest` is saved. Checkpoints of later steps (of a branch of the run that was
/// left, or damaged) neither count nor go.
std::vector<CheckpointEntry> superfluous(const std::vector<CheckpointEntry>& newest_first,
                                         std::int64_t newest, const Retention& retention);

}  // namespace koios
