#include "train/run_checkpoints.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "checkpoint/catalogue.hpp"
#include "checkpoint/checkpoint_file.hpp"
#include "comm/host_reduce.hpp"
#include "core/log.hpp"
#include "shard/parameter_slices.hpp"
#include "train/device_access.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

/// A disk slower than this for the whole job is taken for one that hangs.
constexpr double kSlowestBytesPerSecond = 20e6;

FileType file_type(ExportType type) {
  switch (type) {
    case ExportType::float32:
      return FileType::float32;
    case ExportType::float16:
      return FileType::float16;
    case ExportType::bfloat16:
      return FileType::bfloat16;
  }
  KOIOS_REQUIRE(false, "unknown type");
}

std::vector<SavedArray> saved_arrays(const std::vector<ParameterSlice>& slices,
                                     const std::string& prefix, FileType type,
                                     Ref<float, 1> values) {
  std::vector<SavedArray> arrays;
  for (const ParameterSlice& s : slices) {
    arrays.push_back({.name = prefix + s.name,
                      .type = type,
                      .is_vector = s.is_vector,
                      .rows = s.rows,
                      .cols = s.cols,
                      .first_row = s.first_row,
                      .first_col = s.first_col,
                      .local_rows = s.local_rows,
                      .local_cols = s.local_cols,
                      .is_owner = s.is_owner,
                      .data = values.data + s.shard_offset});
  }
  return arrays;
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!fs::is_directory(folder)) {
    throw UserError(cat("[checkpoint] folder ", folder.string(),
                        " cannot be made: ", error ? error.message() : "a file is in its place"));
  }
  for (const std::string& name : remove_partial(folder)) {
    log::info("removed ", (folder / name).string(), ", which an interrupted save left");
  }
}

}  // namespace

RunCheckpoints::RunCheckpoints(const RunConfig& config, const TrainingShape& shape,
                               const ShardLayout& layout, const ParameterBuffers& parameters,
                               const Mesh& mesh, std::string effective_deck, Stream& compute)
    : config_(config),
      shape_(shape),
      layout_(layout),
      parameters_(parameters),
      mesh_(mesh),
      effective_deck_(std::move(effective_deck)),
      compute_(compute),
      folder_(config.job.dump_folder / config.checkpoint.folder) {
  if (!config.checkpoint.is_on()) return;
  ranks_.emplace();
  access_ = make_host_access(compute);
  ranks_->on_root([&] { make_folder(folder_); });
}

std::vector<SavedArray> RunCheckpoints::arrays() const {
  const std::vector<ParameterSlice> slices = parameter_slices(layout_);
  std::vector<SavedArray> all;
  for (const auto& [prefix, values] :
       {std::pair("model/", parameters_.master),
        std::pair("optimizer/exp_avg/", parameters_.exp_avg),
        std::pair("optimizer/exp_avg_sq/", parameters_.exp_avg_sq)}) {
    const auto part = saved_arrays(slices, prefix, FileType::float32, values);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

std::vector<SavedArray> RunCheckpoints::weights() const {
  return saved_arrays(parameter_slices(layout_), "", file_type(config_.checkpoint.export_dtype),
                      parameters_.master);
}

std::optional<RunState> RunCheckpoints::resume() {
  if (!ranks_) return std::nullopt;
  const ResumeMode mode = config_.checkpoint.resume;
  std::string found;
  if (ranks_->is_root()) {
    for (const CheckpointEntry& entry : list_checkpoints(folder_))
      found += entry.path.string() + "\n";
  }
  found = ranks_->broadcast(found);
  if (mode == ResumeMode::none && !found.empty()) {
    throw UserError(cat("[checkpoint] resume = none, but ", folder_.string(),
                        " holds checkpoints of an earlier run, among them ",
                        found.substr(0, found.find('\n')),
                        ": move them away, or take another job/dump_folder"));
  }
  for (std::size_t at = 0; at < found.size();) {
    const std::size_t end = found.find('\n', at);
    if (std::optional<RunState> state = load(found.substr(at, end - at))) return state;
    at = end + 1;
  }
  if (!found.empty()) {
    throw UserError(cat("none of the checkpoints in ", folder_.string(),
                        " can be used: move them away to start anew"));
  }
  if (mode == ResumeMode::required) {
    throw UserError(
        cat("[checkpoint] resume = required, but there is no checkpoint in ", folder_.string()));
  }
  log::info("no checkpoint in ", folder_.string(), ": training starts anew");
  return std::nullopt;
}

std::optional<RunState> RunCheckpoints::load(const fs::path& path) {
  const Stopwatch watch;
  std::optional<CheckpointReader> reader;
  RunState state;
  const auto pass_over = [&](const std::exception& error) {
    if (ranks_->is_root()) log::warning("passed over ", path.string(), ": ", error.what());
    return std::nullopt;
  };
  try {
    reader.emplace(*ranks_, path);
    state = read_state(reader->head());
  } catch (const UserError& error) {
    return pass_over(error);
  }
  compare_with_deck(reader->head(), shape_, effective_deck_, path.string());
  try {
    reader->read(arrays(), *access_);
  } catch (const UserError& error) {
    return pass_over(error);
  }
  log::info("continues from ", path.string(), ", step ", state.step, ", written on ",
            reader->head().text("mesh"), ", loaded in ", watch.seconds(), " s");
  return state;
}

bool RunCheckpoints::is_due(std::int64_t step) {
  if (!ranks_) return false;
  const CheckpointConfig& c = config_.checkpoint;
  if (step == config_.training.steps || (step == 1 && c.save_first_step)) return true;
  if (c.interval_type == IntervalType::steps) return step % c.interval == 0;
  // One clock decides for all.
  std::array<double, 1> due = {
      ranks_->is_root() && since_save_.seconds() >= static_cast<double>(c.interval) ? 1.0 : 0.0};
  all_reduce_max(mesh_.host_world(), due);
  return due[0] > 0;
}

void RunCheckpoints::save(const RunState& state) {
  compute_.synchronize();
  const bool is_export =
      config_.checkpoint.model_weights_only && state.step == config_.training.steps;
  const fs::path path =
      is_export ? weights_path(folder_, state.step) : checkpoint_path(folder_, state.step);
  const CheckpointHead head = is_export ? make_weights_head(shape_, effective_deck_)
                                        : make_head(state, config_, shape_, effective_deck_);
  const SaveReport report =
      write_checkpoint(*ranks_, path, head, is_export ? weights() : arrays(), *access_);
  log::info("saved ", path.string(), is_export ? ", weights only: it cannot be resumed" : "", ", ",
            (report.bytes >> 20) + 1, " MiB in ", report.write_s, " s, verified in ",
            report.verify_s, " s");
  if (!is_export) prune(state.step);
  since_save_.lap();
}

void RunCheckpoints::prune(std::int64_t newest_step) {
  if (!ranks_->is_root()) return;
  const Retention retention = {config_.checkpoint.keep_latest_k, config_.checkpoint.keep_every};
  for (const auto& entry : superfluous(list_checkpoints(folder_), newest_step, retention)) {
    std::error_code error;
    fs::remove(entry.path, error);
    if (error) log::warning("cannot remove ", entry.path.string(), ": ", error.message());
  }
}

double RunCheckpoints::longest_save_s() const {
  return static_cast<double>(config_.comm.train_timeout_seconds) +
         static_cast<double>(layout_.parameter_count()) * 12 / kSlowestBytesPerSecond;
}

}  // namespace koios
