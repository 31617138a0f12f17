// What follows a step, decided once for all ranks: by the deck, the clock, signals, and the files
// SAVE and STOP in the run folder.
#pragma once

#include <cstdint>
#include <string>

#include "comm/mesh.hpp"
#include "config/run_config.hpp"
#include "core/exit_code.hpp"
#include "core/stopwatch.hpp"
#include "runtime/signals.hpp"
#include "train/job_time.hpp"

namespace koios {

/// Why a run ends before its last step; of several, the greatest counts.
enum class StopReason { none, walltime, stop_file, sigint, sigusr2, sigterm };

struct StepDecision {
  bool log = false;
  bool explain = false;  // a step was not finite
  bool validate = false;
  bool save = false;
  bool last = false;  // of this start of the run
  ExitCode exit_code = ExitCode::done;
  StopReason stop = StopReason::none;

  /// The run's own last step: nothing is left to do.
  bool is_end_of_run() const { return last && stop == StopReason::none; }
};

/// What a step count cannot tell.
struct StepRequests {
  bool save = false;
  bool explain = false;
  StopReason stop = StopReason::none;
};

/// A function of its arguments alone.
StepDecision decide(const RunConfig& config, std::int64_t step, const StepRequests& requests);

class StepDecider {
 public:
  StepDecider(const RunConfig& config, const Mesh& mesh, Signals& signals, const JobTime& time)
      : config_(config), mesh_(mesh), signals_(signals), time_(time) {}

  /// The same on every rank; asked again after the same step, it adds what was requested meanwhile.
  /// save_s: how long a save would take now. saw_nonfinite: StepResults::has_nonfinite. comm: one
  /// small all-reduce.
  StepDecision after(std::int64_t step, double save_s, bool saw_nonfinite);
  /// Whether the end was asked for, as the last after() found.
  bool is_stop_agreed() const { return agreed_.stop != StopReason::none; }
  /// A save is done: those asked for until now are, and the time until the next begins.
  void saved();
  /// Time that belongs to no step.
  void exclude(double seconds) { turn_.exclude(seconds); }

  /// "SIGTERM", "job/walltime", "the file STOP".
  std::string describe(StopReason reason) const;

 private:
  bool wants_save();
  StopReason wants_stop(double save_s);
  bool is_time_over(double save_s) const;

  /// How long a step takes, from one decision to the next.
  class Turn {
   public:
    void exclude(double seconds) { excluded_s_ += seconds; }
    void done(std::int64_t step);
    double slowest_s() const { return slowest_s_; }

   private:
    Stopwatch watch_;
    double excluded_s_ = 0;
    std::int64_t step_ = -1;
    int turns_ = 0;
    double slowest_s_ = 0;
  };

  const RunConfig& config_;
  const Mesh& mesh_;
  Signals& signals_;
  const JobTime& time_;
  StepRequests agreed_;
  int launcher_saves_ = 0;  // asked for until now
  Turn turn_;
  Stopwatch since_save_;
};

}  // namespace koios
