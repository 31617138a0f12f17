#include "train/training_loop.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>

#include "comm/verdict.hpp"
#include "core/log.hpp"
#include "core/readable.hpp"
#include "core/stopwatch.hpp"
#include "data/same_data.hpp"
#include "data/saved_position.hpp"
#include "metrics/terminal.hpp"
#include "train/deck_options.hpp"
#include "train/flops.hpp"
#include "train/initial_weights.hpp"

namespace koios {

template <class T>
TrainingLoop<T>::TrainingLoop(const RunConfig& config, const TrainingShape& shape, const Mesh& mesh,
                              const Launch& launch, const Tokenizer& tokenizer,
                              MetricsWriter* metrics)
    : config_(config),
      launch_(launch),
      mesh_(mesh),
      parts_(shape, mesh.rank()),
      checkpoints_(config, shape, parts_.layout, values_of(parts_.memory.parameters), mesh, launch,
                   parts_.streams.compute),
      sample_ranks_(launch.mpi, shape.mesh.dp_coordinate(mesh.rank())),
      data_wait_(waiting_for_data(mesh.rank(), sample_ranks_.reader())),
      start_(begin(shape)),
      step_(config, shape, mesh, parts_),
      bad_data_(config.data.on_bad_data),
      data_(training_data(config, shape.model.vocab_size, bad_data_, &sample_ranks_), tokenizer,
            shape.mesh.dp_coordinate(mesh.rank()), shape.mesh.dp(), start_.data,
            shape.sequence_part(mesh.rank())),
      job_time_(launch.start, config.job.walltime, std::getenv),
      decider_(config, mesh, launch.signals, job_time_),
      console_({.shown = mesh.rank() == 0,
                .color = log::settings().color,
                .progress = mesh.rank() == 0 && stdout_is_terminal(),
                .first_step = start_.step,
                .steps = config.training.steps}),
      results_(shape.backend, std::min<std::int64_t>(config.metrics.log_freq, 1024),
               shape.micro_batch.tokens() * shape.reduce.micro_batches),
      nonfinite_(config.training, launch.mpi, parts_.layout),
      step_log_(shape, mesh,
                {.steps = config.training.steps,
                 .arena_bytes = largest(plan_memory_of_stages(shape)).total_bytes,
                 .device_bytes = launch.device.info().memory_bytes,
                 .peak_flops = peak_flops(launch.device.info().name),
                 .pci_bus = launch.device.info().pci_bus,
                 .hosts = launch.mpi.all_gather(launch.mpi.host())},
                start_, metrics, console_),
      profiler_(config.profiling, config.job.dump_folder, launch.mpi, step_.streams()) {
  step_.update_after(checkpoints_.update_after());
  launch.watchdog.start("comparing the ranks' data");
  require_same_data(data_.state(), launch.mpi);
  if (config.validation.is_on())
    validation_.emplace(config, shape, tokenizer, mesh, sample_ranks_, bad_data_);
  launch.start.done("data");
  const std::string how = mesh.share_memory(parts_.arena.memory());
  if (!how.empty()) log::info(how);
  launch.start.done("shared memory");
  launch.memory.note("loading and data");
}

template <class T>
RunState TrainingLoop<T>::begin(const TrainingShape& shape) {
  launch_.start.done("memory");
  launch_.memory.note_known("memory plan", parts_.arena.taken().total_bytes);
  launch_.memory.note("mathematics libraries");
  launch_.watchdog.start("loading", checkpoints_.longest_save_s());
  std::optional<RunState> state = checkpoints_.resume();
  if (!state) {
    initialize_parameters(parts_.streams.compute, parts_.layout, parts_.memory.parameters.master,
                          static_cast<std::uint64_t>(config_.job.seed));
    if (!config_.checkpoint.initial_load_path.empty()) {
      load_initial_weights(config_.checkpoint.initial_load_path.string(), launch_.effective_deck,
                           shape.model.vocab_size, parts_.layout, parts_.memory.parameters.master,
                           parts_.streams.compute, launch_.mpi);
    }
    state.emplace();
  }
  launch_.start.done("model");
  launch_.watchdog.start(sample_ranks_.sharers().is_root() ? "opening the data"
                                                           : data_wait_.c_str());
  return *state;
}

template <class T>
TrainingOutcome TrainingLoop<T>::run() {
  std::int64_t step = start_.step;
  StepDecision decision{.last = step >= config_.training.steps};
  if (decision.last) {
    log::info("training/steps = ", config_.training.steps,
              " are done already: nothing is left to do");
  }
  Watchdog& watchdog = launch_.watchdog;
  if (!decision.last) rehearse(watchdog);
  watchdog.start("the first step");
  launch_.signals.hold_stops();
  while (!decision.last) {
    take_step(step++, watchdog);
    decision = decide(step);
    read_results(step, decision);
    if (decision.validate) {
      validate(step, watchdog);
      decision = decide(step);  // it takes long: somebody may not want to wait
    }
    if (decision.log) write_line(step);
    tell_of_start_and_epochs(step);
    if (decision.save) {
      save(step, decision, watchdog);
      decision = decide(step);  // a stop that was asked for meanwhile needs no other save
    }
    checkpoints_.poll();
    console_.progress(step);
    watchdog.beat();
  }
  finish(step, decision, watchdog);
  return {step, decision.exit_code};
}

template <class T>
void TrainingLoop<T>::rehearse(Watchdog& watchdog) {
  watchdog.start("rehearsing a step");
  const SentBytes before = measured_bytes(mesh_);
  step_.rehearse();
  parts_.streams.compute.synchronize();
  sent_besides_steps_ = sent_besides_steps_ + measured_bytes(mesh_) - before;
}

template <class T>
StepDecision TrainingLoop<T>::decide(std::int64_t step) {
  return decider_.after(step, checkpoints_.expected_save_s(), results_.has_nonfinite());
}

template <class T>
void TrainingLoop<T>::finish(std::int64_t step, const StepDecision& decision, Watchdog& watchdog) {
  console_.clear_progress();
  watchdog.allow(checkpoints_.longest_save_s());
  launch_.recorder.enter("ending the run");
  checkpoints_.finish();
  if (step > start_.step) {
    print_timers(timers_, mesh_, since_start_.seconds());
    const SentBytes sent = measured_bytes(mesh_) - sent_besides_steps_;
    for (const std::string& line :
         describe_traffic("measured", sent / (step - start_.step), mesh_.shape())) {
      log::info(line);
    }
  }
  if (decision.stop != StopReason::none) {
    const bool is_saved = config_.checkpoint.is_on();
    log::info("stopped by ", decider_.describe(decision.stop), " after step ", step, " of ",
              config_.training.steps,
              is_saved ? ": the same command goes on from there"
                       : "; nothing is saved: [checkpoint] folder is empty");
  }
  mesh_.share_memory({});  // the last step's results were read: no stream is at work any more
}

template <class T>
void TrainingLoop<T>::take_step(std::int64_t steps_done, Watchdog& watchdog) {
  const auto timer = timers_.scope("step");
  launch_.recorder.at_step(steps_done + 1);
  const double before_s = mesh_.host_seconds();
  const WaitSeconds waits_before = host_waits(mesh_);
  bool is_first = true;
  const auto next_batch = [&] {
    // A step of many micro-batches takes long and is none the less on its way.
    if (!std::exchange(is_first, false)) watchdog.beat();
    const auto data_timer = timers_.scope("data");
    launch_.recorder.enter(data_wait_);
    const Region region = profiler_.data_region();
    Batch batch = data_.next();
    launch_.recorder.enter("computing");
    step_log_.add_samples(batch);
    return batch;
  };
  profiler_.before_step(steps_done + 1);
  step_.run(steps_done, next_batch, results_);
  profiler_.after_step(steps_done + 1);
  timers_.add("communication", mesh_.host_seconds() - before_s);
  step_log_.add_waits(host_waits(mesh_) - waits_before);
}

template <class T>
void TrainingLoop<T>::read_results(std::int64_t step, const StepDecision& decision) {
  if (!decision.log && !decision.explain && !results_.full()) return;
  const auto timer = timers_.scope("log");
  console_.clear_progress();  // warnings come, too
  if (decision.log) step_log_.read_machine(launch_.device);
  const std::vector<StepResult> results = results_.read();
  std::int64_t at = step - std::ssize(results);
  std::optional<NonfiniteFindings> found;
  for (const StepResult& result : results) {
    const bool is_finite = std::isfinite(result.grad_norm);
    const bool is_first = !is_finite && !found;  // what was looked at
    if (is_first) found = step_.take_nonfinite();
    nonfinite_.judge(++at, result, is_first ? found : std::nullopt);
    step_log_.add(result, !is_finite && config_.training.on_nonfinite != OnNonfinite::go_on);
  }
  step_log_.set_fp8_counts(results_.fp8_counts());
  step_log_.add_exposed(step_.take_exposed_wait());
}

template <class T>
void TrainingLoop<T>::write_line(std::int64_t step) {
  const auto timer = timers_.scope("log");
  console_.clear_progress();
  step_log_.write(step, step_.lr(step - 1), timers_, std::exchange(validated_, std::nullopt));
  bad_data_report_.tell(bad_data_, launch_.mpi);
  if (std::exchange(is_first_line_, false) && start_.step > 0 && mesh_.rank() == 0) {
    const std::string jump = describe_jump(start_.losses, step_log_.losses().back());
    if (!jump.empty()) log::warning(jump);
  }
}

template <class T>
void TrainingLoop<T>::tell_of_start_and_epochs(std::int64_t step) {
  const bool is_first = step == start_.step + 1;
  if (is_first) {
    parts_.streams.compute.synchronize();
    launch_.start.done("first step");
    log::info("first step done ", duration(launch_.start.total_seconds()),
              " after launch: ", launch_.start.describe());
    launch_.memory.note("first step");
    log::info(launch_.memory.describe());
    checkpoints_.prepare();
  }
  if (data_.epoch() == epoch_) return;
  epoch_ = data_.epoch();
  if (is_first && start_.step > 0) return;  // it started again before the checkpoint
  console_.clear_progress();
  log::info("step ", step, ": the data starts again, epoch ", epoch_ + 1);
}

template <class T>
void TrainingLoop<T>::save(std::int64_t step, const StepDecision& decision, Watchdog& watchdog) {
  const Stopwatch watch;
  const Region region = profiler_.checkpoint_region();
  launch_.recorder.enter("saving");
  watchdog.allow(checkpoints_.longest_save_s());
  console_.clear_progress();
  if (decision.stop != StopReason::none) {
    log::info(decider_.describe(decision.stop), ": saves step ", step, " and stops");
  }
  checkpoints_.save({.step = step,
                     .tokens = step_log_.tokens_seen(step),
                     .losses = step_log_.losses(),
                     .data = furthest(data_.state(), launch_.mpi)},
                    decision.is_end_of_run());
  decider_.saved();
  step_log_.restart_clock();
  decider_.exclude(watch.seconds());
  timers_.add("checkpoint", watch.seconds());
}

template <class T>
void TrainingLoop<T>::validate(std::int64_t step, Watchdog& watchdog) {
  const Stopwatch watch;
  launch_.recorder.enter("validation");
  const SentBytes before = measured_bytes(mesh_);
  const double met_s = mesh_.host_world().host_seconds();
  validated_ = validation_->run(step_, parts_.streams.compute, [&] {
    watchdog.beat();
    decide(step);
    return !decider_.is_stop_agreed();
  });
  if (!validated_) log::info("validation broken off: the run is to stop");
  sent_besides_steps_ = sent_besides_steps_ + measured_bytes(mesh_) - before;
  const double seconds = watch.seconds();
  step_log_.exclude(seconds, mesh_.host_world().host_seconds() - met_s);
  decider_.exclude(seconds);
  timers_.add("validation", seconds);
}

template class TrainingLoop<float>;
template class TrainingLoop<bf16>;

}  // namespace koios
