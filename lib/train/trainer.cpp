#include "train/trainer.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "comm/host_reduce.hpp"
#include "comm/mesh.hpp"
#include "comm/watchdog.hpp"
#include "core/integers.hpp"
#include "core/log.hpp"
#include "core/stopwatch.hpp"
#include "data/bad_data_report.hpp"
#include "data/data_loader.hpp"
#include "data/same_data.hpp"
#include "data/saved_position.hpp"
#include "data/tokenizer.hpp"
#include "metrics/console.hpp"
#include "metrics/terminal.hpp"
#include "shard/parameters.hpp"
#include "train/data_listing.hpp"
#include "train/flops.hpp"
#include "train/host_memory.hpp"
#include "train/initial_weights.hpp"
#include "train/places.hpp"
#include "train/plan_report.hpp"
#include "train/run_checkpoints.hpp"
#include "train/run_data.hpp"
#include "train/run_output.hpp"
#include "train/run_report.hpp"
#include "train/step.hpp"
#include "train/step_log.hpp"
#include "train/validation.hpp"

namespace koios {
namespace {

CommOptions comm_options(const RunConfig& config) {
  return {.init_timeout_s = static_cast<double>(config.comm.init_timeout_seconds),
          .train_timeout_s = static_cast<double>(config.comm.train_timeout_seconds),
          .trace_buf_size = narrow<int>(config.comm.trace_buf_size),
          .shard_transport = shard_transport(config.comm.shard_transport)};
}

/// A run from its memory to its last line, on this rank; members are in the order of their making.
template <class T>
class Training {
 public:
  Training(const RunConfig& config, const TrainingShape& shape, const MemoryPlan& plan,
           const Mesh& mesh, const Launch& launch, const Tokenizer& tokenizer,
           MetricsWriter* metrics);

  void run();

 private:
  /// Parameters, moments and the rest as a checkpoint, a file of weights or the seed gives them.
  RunState begin(const TrainingShape& shape);
  void take_step(std::int64_t steps_done, Watchdog& watchdog);
  /// A step that is saved is logged too: what is saved is known to be finite, and a resumed run
  /// writes the same lines as one that was never stopped.
  bool is_logged(std::int64_t step, bool is_saved) const {
    return is_saved || step == 1 || step % config_.metrics.log_freq == 0 ||
           step == config_.training.steps || (validation_ && validation_->is_due(step));
  }
  /// Brings in the results of the steps so far; writes a line where one is due.
  void log(std::int64_t step, bool is_saved, Watchdog& watchdog);
  /// Where it is due; its time counts in no step.
  std::optional<ValidationResult> validate(std::int64_t step, Watchdog& watchdog);
  void tell_of_start_and_epochs(std::int64_t step);
  void save(std::int64_t step, Watchdog& watchdog);

  const RunConfig& config_;
  const Launch& launch_;
  const Mesh& mesh_;
  Arena arena_;
  ShardLayout layout_;
  TrainingMemory<T> memory_;
  TrainingStreams streams_;
  MathHandles math_;
  RunCheckpoints checkpoints_;
  RunState start_;
  TrainStep<T> step_;
  BadData bad_data_;
  BadDataReport bad_data_report_;
  DataLoader data_;
  std::optional<Validation<T>> validation_;
  Console console_;
  StepResults results_;
  StepLog step_log_;
  Timers timers_{"data", "communication", "step", "log", "validation", "checkpoint"};
  std::int64_t epoch_ = 0;
  SentBytes sent_by_validation_;
};

template <class T>
Training<T>::Training(const RunConfig& config, const TrainingShape& shape, const MemoryPlan& plan,
                      const Mesh& mesh, const Launch& launch, const Tokenizer& tokenizer,
                      MetricsWriter* metrics)
    : config_(config),
      launch_(launch),
      mesh_(mesh),
      arena_(shape.backend, plan),
      layout_(shard_layout(shape, mesh.rank())),
      memory_(arena_, shape, layout_),
      streams_(shape.backend),
      math_(shape.backend, shape.math, memory_.library_workspace),
      checkpoints_(config, shape, layout_, values_of(memory_.parameters), mesh, launch,
                   streams_.compute),
      start_(begin(shape)),
      step_(config, shape, layout_, memory_, math_, mesh, streams_),
      bad_data_(bad_data_policy(config)),
      data_(training_data(config, shape.model.vocab_size, bad_data_), tokenizer,
            shape.mesh.dp_coordinate(mesh.rank()), shape.mesh.dp(), start_.data),
      console_({.shown = mesh.rank() == 0,
                .color = log::settings().color,
                .progress = mesh.rank() == 0 && stdout_is_terminal(),
                .first_step = start_.step,
                .steps = config.training.steps}),
      results_(shape.backend, std::min<std::int64_t>(config.metrics.log_freq, 1024),
               shape.micro_batch.tokens() * shape.reduce.micro_batches),
      step_log_(shape, mesh,
                {.steps = config.training.steps,
                 .arena_bytes = plan.total_bytes,
                 .device_bytes = launch.device.info().memory_bytes,
                 .peak_flops = peak_flops(launch.device.info().name)},
                start_, metrics, console_) {
  step_.update_after(checkpoints_.update_after());
  KOIOS_REQUIRE(arena_.taken().total_bytes == plan.total_bytes, "the plan says ", plan.total_bytes,
                " bytes, ", arena_.taken().total_bytes, " were used");
  require_same_data(data_.state(), launch.mpi);
  if (const std::string how = mesh.share_memory(arena_.memory()); !how.empty()) log::info(how);
  if (config.validation.is_on()) validation_.emplace(config, shape, tokenizer, mesh, bad_data_);
}

template <class T>
RunState Training<T>::begin(const TrainingShape& shape) {
  if (std::optional<RunState> state = checkpoints_.resume()) return *state;
  initialize_parameters(streams_.compute, layout_, memory_.parameters.master,
                        static_cast<std::uint64_t>(config_.job.seed));
  if (!config_.checkpoint.initial_load_path.empty()) {
    load_initial_weights(config_, shape.model.vocab_size, layout_, memory_.parameters.master,
                         streams_.compute);
  }
  return {};
}

template <class T>
void Training<T>::run() {
  const std::int64_t steps = config_.training.steps;
  if (start_.step >= steps) {
    log::info("training/steps = ", steps, " are done already: nothing is left to do");
    return;
  }
  Watchdog watchdog(mesh_, comm_options(config_), config_.job.dump_folder);
  const Stopwatch whole;
  for (std::int64_t done = start_.step; done < steps; ++done) {
    take_step(done, watchdog);
    const bool is_saved = checkpoints_.is_due(done + 1);
    log(done + 1, is_saved, watchdog);
    if (is_saved) save(done + 1, watchdog);
    checkpoints_.poll();
    console_.progress(done + 1);
    watchdog.beat();
  }
  console_.clear_progress();
  watchdog.allow(checkpoints_.longest_save_s());
  checkpoints_.finish();
  print_timers(timers_, mesh_, whole.seconds());
  print_traffic(mesh_, sent_bytes(mesh_) - sent_by_validation_, steps - start_.step);
}

template <class T>
void Training<T>::take_step(std::int64_t steps_done, Watchdog& watchdog) {
  const auto timer = timers_.scope("step");
  const double before_s = mesh_.host_seconds();
  bool is_first = true;
  const auto next_batch = [&] {
    // A step of many micro-batches takes long and is none the less on its way.
    if (!std::exchange(is_first, false)) watchdog.beat();
    Batch batch = data_.next();
    step_log_.add_samples(batch);
    return batch;
  };
  step_.run(steps_done, next_batch, results_, timers_);
  timers_.add("communication", mesh_.host_seconds() - before_s);
}

template <class T>
void Training<T>::log(std::int64_t step, bool is_saved, Watchdog& watchdog) {
  if (is_logged(step, is_saved) || results_.full()) {
    const auto timer = timers_.scope("log");
    console_.clear_progress();  // warnings come, too
    step_log_.add(results_.read(), step, config_.training.on_nonfinite);
    if (is_logged(step, is_saved)) {
      const double exposed_s = step_.exposed_wait_seconds();
      const auto validation = validate(step, watchdog);
      step_log_.write(step, step_.lr(step - 1), launch_.device.reserved_bytes(), exposed_s, timers_,
                      validation);
      bad_data_report_.tell(bad_data_, launch_.mpi);
    }
  }
  tell_of_start_and_epochs(step);
}

template <class T>
void Training<T>::tell_of_start_and_epochs(std::int64_t step) {
  const bool is_first = step == start_.step + 1;
  if (is_first) {
    streams_.compute.synchronize();
    launch_.start.done("first step");
    log::info("first step done ", launch_.start.total_seconds(),
              " s after launch: ", launch_.start.describe());
    checkpoints_.prepare();
  }
  if (data_.epoch() == epoch_) return;
  epoch_ = data_.epoch();
  if (is_first && start_.step > 0) return;  // it started again before the checkpoint
  console_.clear_progress();
  log::info("step ", step, ": the data starts again, epoch ", epoch_ + 1);
}

template <class T>
void Training<T>::save(std::int64_t step, Watchdog& watchdog) {
  const auto timer = timers_.scope("checkpoint");
  watchdog.allow(checkpoints_.longest_save_s());
  console_.clear_progress();
  checkpoints_.save({.step = step,
                     .tokens = step_log_.tokens_seen(step),
                     .lr = step_.lr(step - 1),
                     .losses = step_log_.losses(),
                     .data = furthest(data_.state(), launch_.mpi)});
  step_log_.restart_clock();
}

template <class T>
std::optional<ValidationResult> Training<T>::validate(std::int64_t step, Watchdog& watchdog) {
  if (!validation_ || !validation_->is_due(step)) return std::nullopt;
  const SentBytes before = sent_bytes(mesh_);
  const ValidationResult result =
      validation_->run(step_, streams_.compute, [&] { watchdog.beat(); });
  sent_by_validation_ += sent_bytes(mesh_) - before;
  step_log_.exclude(result.seconds);
  timers_.add("validation", result.seconds);
  timers_.add("log", -result.seconds);  // which it is inside of
  return result;
}

template <class T>
void train(const RunConfig& config, const TrainingShape& shape, const MemoryPlan& plan,
           const Mesh& mesh, const Launch& launch, const Tokenizer& tokenizer) {
  const std::vector<std::string> hosts = launch.mpi.all_gather(launch.mpi.host());
  const auto output =
      mesh.rank() == 0 ? std::make_unique<RunOutput>(config, launch, hosts) : nullptr;
  if (output) {
    BadData unused(BadData::Policy::skip);
    note_data_files(output->folder, training_data(config, shape.model.vocab_size, unused));
  }
  barrier(mesh.host_world());  // the folder is there for every rank

  Training<T> training(config, shape, plan, mesh, launch, tokenizer,
                       output ? &output->metrics : nullptr);
  launch.start.done("memory, model and data");
  training.run();
  mesh.share_memory({});  // the last step's results were read: no stream is at work any more
  if (output) log::info("metrics: ", output->folder.file("metrics.jsonl").string());
}

}  // namespace

void run_training(const RunConfig& config, const MeshShape& mesh_shape, const Launch& launch) {
  const std::unique_ptr<Tokenizer> tokenizer =
      load_sentencepiece(config.model.tokenizer_path.string());
  const std::int64_t vocab_size =
      config.model.vocab_size > 0 ? config.model.vocab_size : tokenizer->vocab_size();
  if (tokenizer->vocab_size() > vocab_size) {
    throw UserError(cat("[model] vocab_size = ", vocab_size, " is smaller than the tokenizer's ",
                        tokenizer->vocab_size(), " pieces (", config.model.tokenizer_path.string(),
                        "); set it to 0 or to at least that"));
  }
  const TrainingShape shape =
      training_shape(config, mesh_shape, launch.device.backend(), vocab_size);
  const MemoryPlan plan = plan_memory(shape);

  log::info(config.job.description);
  log::info("mesh ", mesh_shape.describe(), " | ", DeviceEnv::host_threads(), " threads per rank");
  log::info(describe_model(config.model.flavor, shape.model));
  for (const std::string& line :
       describe_plan(shape, plan, plan_traffic(shape), launch.device.info().memory_bytes)) {
    log::info(line);
  }
  require_host_memory(shape, plan, launch.mpi);
  print_places(launch.mpi, launch.device);
  launch.start.done("tokenizer and plan");
  const Mesh mesh(launch.mpi, mesh_shape, shape.backend, comm_options(config));
  launch.start.done("communicators");
  if (shape.compute == DType::bfloat16) {
    train<bf16>(config, shape, plan, mesh, launch, *tokenizer);
  } else {
    train<float>(config, shape, plan, mesh, launch, *tokenizer);
  }
}

}  // namespace koios
