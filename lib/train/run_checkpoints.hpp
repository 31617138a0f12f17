// The checkpoints of this run: which one it starts from, and saving.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/async_writer.hpp"
#include "checkpoint/checkpoint_reader.hpp"
#include "checkpoint/saved_array.hpp"
#include "comm/mesh.hpp"
#include "core/stopwatch.hpp"
#include "runtime/rank_group.hpp"
#include "shard/layout.hpp"
#include "train/launch.hpp"
#include "train/run_state.hpp"
#include "train/save_staging.hpp"

namespace koios {

class RunCheckpoints {
 public:
  /// Does nothing, ever, where [checkpoint] folder is empty. Collective; the run folder is there.
  RunCheckpoints(const RunConfig& config, const TrainingShape& shape, const ShardLayout& layout,
                 const SavedValues& values, const Mesh& mesh, const Launch& launch,
                 Stream& compute);

  /// Collective: fills parameters and moments from the newest good checkpoint and returns what it
  /// says, or nothing where the run starts anew ([checkpoint] resume).
  std::optional<RunState> resume();

  /// After the first step, whose start it would delay: takes the memory of asynchronous saves.
  void prepare();
  /// Collective. Throws where the checkpoint is not safely there, and then leaves no trace of it;
  /// an asynchronous save throws what went wrong from poll(), the next save() or finish().
  /// is_end_of_run: nothing is left to train, so that the weights alone may be asked for.
  void save(const RunState& state, bool is_end_of_run);
  /// After every step: says what was saved meanwhile.
  void poll();
  /// After the last step: waits for what is being saved.
  void finish();

  /// What the update of the parameters must wait for.
  const Event* update_after() const { return staging_ ? &staging_->copied() : nullptr; }
  /// How long it would take now until a checkpoint is safe, going by the slowest save so far.
  double expected_save_s() const;
  /// How long a save may take on a disk that works.
  double longest_save_s() const;

 private:
  /// Of the file of weights alone that ended this run; nothing where there is none.
  std::optional<std::int64_t> finished_step();
  /// step_and_path: of a checkpoint, with a blank between them.
  std::optional<RunState> load(const std::string& step_and_path);
  /// Where the file has them in another type.
  void say_of_moments(const CheckpointReader& reader) const;
  double checkpoint_bytes() const;
  void save_behind(const RunState& state);
  void export_weights(std::int64_t step);
  void say_saved();

  const RunConfig& config_;
  const TrainingShape& shape_;
  const ShardLayout& layout_;
  SavedValues values_;
  const Mesh& mesh_;
  const Launch& launch_;
  Stream& compute_;
  std::filesystem::path folder_;
  std::shared_ptr<RankGroup> ranks_;  // null: off
  std::unique_ptr<HostAccess> access_;
  std::optional<Stopwatch> saving_;  // since an asynchronous save began
  double slowest_save_s_ = 0;

  // Of asynchronous saves, else null. What the thread uses it shares, so that it may outlive this.
  std::shared_ptr<SaveStaging> staging_;
  std::shared_ptr<std::string> saved_line_;  // empty: nothing new
  std::unique_ptr<AsyncWriter> writer_;
};

}  // namespace koios
