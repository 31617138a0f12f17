// The loop: take a step, decide, log, save. Everything that the run holds lives here.
#pragma once

#include <cstdint>
#include <optional>

#include "comm/mesh.hpp"
#include "comm/watchdog.hpp"
#include "config/run_config.hpp"
#include "core/stopwatch.hpp"
#include "data/bad_data_report.hpp"
#include "data/data_loader.hpp"
#include "metrics/console.hpp"
#include "train/end_report.hpp"
#include "train/job_time.hpp"
#include "train/launch.hpp"
#include "train/profiler.hpp"
#include "train/run_checkpoints.hpp"
#include "train/run_training.hpp"
#include "train/sent_bytes.hpp"
#include "train/step.hpp"
#include "train/step_decision.hpp"
#include "train/step_log.hpp"
#include "train/validation.hpp"

namespace koios {

/// Members are in the order of their making.
template <class T>
class TrainingLoop {
 public:
  /// Takes the memory that is planned, and fills it from a checkpoint, a file of weights or the
  /// seed. metrics: rank 0 only, else null. Collective.
  TrainingLoop(const RunConfig& config, const TrainingShape& shape, const Mesh& mesh,
               const Launch& launch, const Tokenizer& tokenizer, MetricsWriter* metrics);

  TrainingOutcome run();

 private:
  RunState begin(const TrainingShape& shape);
  /// TrainStep::rehearse; its traffic counts in no step.
  void rehearse(Watchdog& watchdog);
  void take_step(std::int64_t steps_done, Watchdog& watchdog);
  /// What follows the step. Collective; to be asked again after what takes long.
  StepDecision decide(std::int64_t step);
  /// Brings in the results of the steps so far where a line is due.
  void read_results(std::int64_t step, const StepDecision& decision);
  /// Broken off where the end is asked for. Its time counts in no step.
  void validate(std::int64_t step, Watchdog& watchdog);
  void write_line(std::int64_t step);
  void tell_of_start_and_epochs(std::int64_t step);
  void save(std::int64_t step, const StepDecision& decision, Watchdog& watchdog);
  void finish(std::int64_t step, const StepDecision& decision, Watchdog& watchdog);

  const RunConfig& config_;
  const Launch& launch_;
  const Mesh& mesh_;
  TrainingParts<T> parts_;
  RunCheckpoints checkpoints_;
  SampleRanks sample_ranks_;
  std::string data_wait_;  // what the watchdog says of it
  RunState start_;
  TrainStep<T> step_;
  BadData bad_data_;
  BadDataReport bad_data_report_;
  DataLoader data_;
  std::optional<Validation<T>> validation_;
  JobTime job_time_;
  StepDecider decider_;
  Console console_;
  StepResults results_;
  NonfinitePolicy nonfinite_;
  StepLog step_log_;
  Profiler profiler_;
  Timers timers_{"data", "communication", "step", "log", "validation", "checkpoint"};
  Stopwatch since_start_;
  std::optional<ValidationResult> validated_;  // after this step
  bool is_first_line_ = true;
  std::int64_t epoch_ = 0;
  SentBytes sent_besides_steps_;  // by validation and rehearsal
};

}  // namespace koios
