// The checkpoints of this run: which one it starts from, when to save, and saving.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/ranks.hpp"
#include "checkpoint/saved_array.hpp"
#include "comm/mesh.hpp"
#include "core/stopwatch.hpp"
#include "shard/layout.hpp"
#include "shard/parameters.hpp"
#include "train/run_state.hpp"

namespace koios {

class RunCheckpoints {
 public:
  /// Does nothing, ever, where [checkpoint] folder is empty. Collective; the run folder is there.
  RunCheckpoints(const RunConfig& config, const TrainingShape& shape, const ShardLayout& layout,
                 const ParameterBuffers& parameters, const Mesh& mesh, std::string effective_deck,
                 Stream& compute);

  /// Collective: fills parameters and moments from the newest good checkpoint and returns what it
  /// says, or nothing where the run starts anew ([checkpoint] resume).
  std::optional<RunState> resume();

  /// Whether to save after this step, the same on all ranks. Collective.
  bool is_due(std::int64_t step);
  /// Collective. Throws where the checkpoint is not safely there; then no trace of it is left.
  void save(const RunState& state);
  /// How long a save may take on a disk that works.
  double longest_save_s() const;

 private:
  /// Parameters and moments where they lie, under the names of the file.
  std::vector<SavedArray> arrays() const;
  std::vector<SavedArray> weights() const;
  std::optional<RunState> load(const std::filesystem::path& path);
  void prune(std::int64_t newest_step);

  const RunConfig& config_;
  const TrainingShape& shape_;
  const ShardLayout& layout_;
  ParameterBuffers parameters_;
  const Mesh& mesh_;
  std::string effective_deck_;
  Stream& compute_;
  std::filesystem::path folder_;
  std::optional<CheckpointRanks> ranks_;  // none: off
  std::unique_ptr<HostAccess> access_;
  Stopwatch since_save_;
};

}  // namespace koios
