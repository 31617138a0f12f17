#include "train/run_checkpoints.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "checkpoint/catalogue.hpp"
#include "checkpoint/checkpoint_file.hpp"
#include "core/log.hpp"
#include "core/readable.hpp"
#include "core/stopwatch.hpp"
#include "train/device_access.hpp"
#include "train/saved_parameters.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

/// A disk slower than this for the whole job is taken for one that hangs.
constexpr double kSlowestBytesPerSecond = 20e6;
/// What a save is taken to reach before the first has shown more or less.
constexpr double kExpectedBytesPerSecond = 200e6;
constexpr const char* kExpAvg = "optimizer/exp_avg/";

WriteOptions write_options(const CheckpointConfig& config) { return {.method = config.io}; }

std::string describe(const SaveReport& report) {
  return cat(", ", (report.bytes >> 20) + 1, " MiB in ", duration(report.write_s), ", verified in ",
             duration(report.verify_s));
}

void prepare_folder(const fs::path& folder) {
  make_checkpoint_folder(folder);
  for (const std::string& name : remove_partial(folder)) {
    log::info("removed ", (folder / name).string(), ", which an interrupted save left");
  }
}

std::vector<SavedArray> checkpoint_arrays(const ShardLayout& layout, const SavedValues& values) {
  std::vector<SavedArray> all;
  for (const auto& [prefix, part] :
       {std::pair("model/", any(values.master)), std::pair(kExpAvg, values.exp_avg),
        std::pair("optimizer/exp_avg_sq/", values.exp_avg_sq)}) {
    const auto arrays = saved_parameters(layout, prefix, part.dtype, part);
    all.insert(all.end(), arrays.begin(), arrays.end());
  }
  return all;
}

/// Rank 0, after a save, which is safe whatever becomes of the older ones.
void prune(const fs::path& folder, std::int64_t newest_step, const Retention& retention) {
  try {
    for (const auto& entry : superfluous(list_checkpoints(folder), newest_step, retention)) {
      std::error_code error;
      fs::remove(entry.path, error);
      if (error) log::warning("cannot remove ", entry.path.string(), ": ", error.message());
    }
  } catch (const UserError& error) {
    log::warning("older checkpoints stay: ", error.what());
  }
}

/// Writes the file, removes older ones, and returns what is to be said of it. Collective.
std::string write_and_prune(const RankGroup& ranks, const fs::path& folder, std::int64_t step,
                            const CheckpointHead& head, std::span<const SavedArray> arrays,
                            HostAccess& access, const CheckpointConfig& config) {
  const fs::path path = checkpoint_path(folder, step);
  const SaveReport report =
      write_checkpoint(ranks, path, head, arrays, access, write_options(config));
  if (ranks.is_root()) prune(folder, step, {config.keep_latest_k, config.keep_every});
  return cat("saved ", path.string(), describe(report));
}

}  // namespace

RunCheckpoints::RunCheckpoints(const RunConfig& config, const TrainingShape& shape,
                               const ShardLayout& layout, const SavedValues& values,
                               const Mesh& mesh, const Launch& launch, Stream& compute)
    : config_(config),
      shape_(shape),
      layout_(layout),
      values_(values),
      mesh_(mesh),
      launch_(launch),
      compute_(compute),
      folder_(config.job.dump_folder / config.checkpoint.folder) {
  if (!config.checkpoint.is_on()) return;
  // Of its own, so that a thread may use it beside the training's.
  ranks_ = std::make_shared<RankGroup>(launch.mpi.split(0));
  access_ = make_host_access(compute);
  ranks_->on_root([&] {
    prepare_folder(folder_);
    log::info("checkpoints in ", folder_.string(), ", every ", config.checkpoint.interval, " ",
              to_string(config.checkpoint.interval_type), ": ",
              describe_io(write_options(config.checkpoint).method, folder_),
              config.checkpoint.asynchronous ? ", asynchronously" : "");
  });
  if (!config.checkpoint.asynchronous) return;
  if (!launch.mpi.thread_multiple()) {
    log::info("this MPI does not let two threads communicate: saves are synchronous");
    return;
  }
  staging_ = std::make_shared<SaveStaging>(shape.backend, layout, shape.moments);
  saved_line_ = std::make_shared<std::string>();
  writer_ = std::make_unique<AsyncWriter>();
}

std::optional<RunState> RunCheckpoints::resume() {
  if (!ranks_) return std::nullopt;
  const ResumeMode mode = config_.checkpoint.resume;
  std::string found;
  ranks_->on_root([&] {
    for (const CheckpointEntry& entry : list_checkpoints(folder_)) {
      found += cat(entry.step, ' ', entry.path.string(), '\n');
    }
  });
  found = ranks_->broadcast(found);
  if (mode == ResumeMode::none && !found.empty()) {
    throw UserError(cat("[checkpoint] resume = none, but ", folder_.string(),
                        " holds checkpoints of an earlier run, among them ",
                        found.substr(found.find(' ') + 1, found.find('\n') - found.find(' ') - 1),
                        ": move them away, or take another job/dump_folder"));
  }
  if (const std::optional<std::int64_t> step = finished_step()) {
    RunState state;
    state.step = *step;
    return state;
  }
  for (std::size_t at = 0; at < found.size();) {
    const std::size_t end = found.find('\n', at);
    if (std::optional<RunState> state = load(found.substr(at, end - at))) {
      // An earlier start may have been killed between its last save and this.
      const CheckpointConfig& c = config_.checkpoint;
      if (ranks_->is_root()) prune(folder_, state->step, {c.keep_latest_k, c.keep_every});
      return state;
    }
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

std::optional<std::int64_t> RunCheckpoints::finished_step() {
  if (!config_.checkpoint.model_weights_only) return std::nullopt;
  std::string newest;
  ranks_->on_root([&] {
    for (const CheckpointEntry& entry : list_weights(folder_)) {
      if (entry.step >= config_.training.steps && newest.empty())
        newest = std::to_string(entry.step);
    }
  });
  newest = ranks_->broadcast(newest);
  if (newest.empty()) return std::nullopt;
  const std::int64_t step = std::stoll(newest);
  const fs::path path = weights_path(folder_, step);
  std::optional<CheckpointReader> reader;
  try {
    reader.emplace(*ranks_, path);
    if (kind_of(reader->head()) != "weights") throw UserError("it does not hold weights");
    const auto written = reader->head().root.find("step");
    if (written != reader->head().root.end()) {
      require_step(step, std::get<std::int64_t>(written->second));
    }
    reader->read(saved_parameters(layout_, "", DType::float32, any(values_.master)), *access_);
  } catch (const UserError& error) {
    if (ranks_->is_root()) log::warning("passed over ", path.string(), ": ", error.what());
    return std::nullopt;
  }
  compare_with_deck(reader->head(), shape_, launch_.effective_deck, path.string());
  log::info(path.string(), " holds the weights of step ", step);
  return step;
}

std::optional<RunState> RunCheckpoints::load(const std::string& step_and_path) {
  const std::size_t blank = step_and_path.find(' ');
  const std::int64_t step = std::stoll(step_and_path.substr(0, blank));
  const fs::path path = step_and_path.substr(blank + 1);
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
    require_step(step, state.step);
  } catch (const UserError& error) {
    return pass_over(error);
  }
  compare_with_deck(reader->head(), shape_, launch_.effective_deck, path.string());
  try {
    reader->read(checkpoint_arrays(layout_, values_), *access_);
  } catch (const UserError& error) {
    return pass_over(error);
  }
  say_of_moments(*reader);
  log::info("continues from ", path.string(), ", step ", state.step, ", written on ",
            reader->head().text("mesh"), ", loaded in ", duration(watch.seconds()));
  return state;
}

void RunCheckpoints::say_of_moments(const CheckpointReader& reader) const {
  const std::vector<SavedArray> moments =
      saved_parameters(layout_, kExpAvg, shape_.moments, values_.exp_avg);
  const DType saved = reader.type_of(moments.front().name);
  if (saved == moments.front().type) return;
  log::info("the optimizer's moments are ", to_string(saved), " in the checkpoint and ",
            to_string(moments.front().type), " here: ",
            size_of(saved) < size_of(moments.front().type) ? "the same values"
                                                           : "rounded to nearest, once");
}

void RunCheckpoints::prepare() {
  if (!writer_) return;
  writer_->start([staging = staging_, &device = launch_.device] {
    device.use_on_this_thread();
    staging->allocate();
  });
}

void RunCheckpoints::save(const RunState& state, bool is_end_of_run) {
  const bool is_export = config_.checkpoint.model_weights_only && is_end_of_run;
  if (writer_) {
    writer_->wait();
    say_saved();
  }
  const Stopwatch watch;
  if (is_export) {
    export_weights(state.step);
  } else if (writer_) {
    saving_.emplace();
    save_behind(state);
  } else {
    compute_.synchronize();
    log::info(write_and_prune(*ranks_, folder_, state.step,
                              make_head(state, shape_, launch_.effective_deck),
                              checkpoint_arrays(layout_, values_), *access_, config_.checkpoint));
    slowest_save_s_ = std::max(slowest_save_s_, watch.seconds());
  }
}

void RunCheckpoints::save_behind(const RunState& state) {
  const Stopwatch watch;
  staging_->copy_from(values_, compute_);
  writer_->start([ranks = ranks_, staging = staging_, line = saved_line_, layout = layout_,
                  folder = folder_, step = state.step, config = config_.checkpoint,
                  head = make_head(state, shape_, launch_.effective_deck), &device = launch_.device,
                  stood_still_s = watch.seconds()] {
    device.use_on_this_thread();
    HostAccess access;
    const std::vector<SavedArray> arrays = checkpoint_arrays(layout, staging->wait());
    *line = cat(write_and_prune(*ranks, folder, step, head, arrays, access, config),
                ", while training stood still for ", duration(stood_still_s));
  });
}

void RunCheckpoints::export_weights(std::int64_t step) {
  compute_.synchronize();
  const fs::path path = weights_path(folder_, step);
  const std::vector<SavedArray> arrays =
      saved_parameters(layout_, "", config_.checkpoint.export_dtype, any(values_.master));
  const SaveReport report =
      write_checkpoint(*ranks_, path, make_weights_head(step, shape_, launch_.effective_deck),
                       arrays, *access_, write_options(config_.checkpoint));
  log::info("saved ", path.string(), ", weights only: it cannot be resumed", describe(report));
}

void RunCheckpoints::say_saved() {
  if (!saved_line_->empty()) log::info(*saved_line_);
  saved_line_->clear();
  if (saving_) slowest_save_s_ = std::max(slowest_save_s_, saving_->seconds());
  saving_.reset();
}

void RunCheckpoints::poll() {
  if (writer_ && writer_->poll()) say_saved();
}

void RunCheckpoints::finish() {
  if (!writer_) return;
  writer_->wait();
  say_saved();
}

double RunCheckpoints::expected_save_s() const {
  if (!ranks_) return 0;
  const double one_s =
      slowest_save_s_ > 0 ? slowest_save_s_ : checkpoint_bytes() / kExpectedBytesPerSecond;
  return saving_ ? 2 * one_s : one_s;  // that one has to end first
}

double RunCheckpoints::longest_save_s() const {
  return static_cast<double>(config_.comm.train_timeout_seconds) +
         checkpoint_bytes() / kSlowestBytesPerSecond;
}

double RunCheckpoints::checkpoint_bytes() const {
  const std::int64_t of_parameter = size_of(DType::float32) + 2 * size_of(shape_.moments);
  return static_cast<double>(layout_.parameter_count() * of_parameter);
}

}  // namespace koios
