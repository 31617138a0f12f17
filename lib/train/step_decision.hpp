// What follows a step, decided once for all ranks.
#pragma once

#include <cstdint>

#include "comm/mesh.hpp"
#include "config/run_config.hpp"
#include "core/exit_code.hpp"
#include "core/stopwatch.hpp"

namespace koios {

struct StepDecision {
  bool log = false;
  bool validate = false;
  bool save = false;
  bool last = false;  // of this start of the run
  ExitCode exit_code = ExitCode::done;

  /// The run's own last step: nothing is left to do.
  bool is_end_of_run() const { return last && exit_code == ExitCode::done; }
};

/// What a step count cannot tell.
struct StepRequests {
  bool save = false;  // the time between two saves is over
};

/// A function of its arguments alone.
StepDecision decide(const RunConfig& config, std::int64_t step, const StepRequests& requests);

class StepDecider {
 public:
  StepDecider(const RunConfig& config, const Mesh& mesh) : config_(config), mesh_(mesh) {}

  /// The same on every rank. comm: one small all-reduce where a clock has a say.
  StepDecision after(std::int64_t step);
  /// A save is done: the time until the next begins.
  void saved() { since_save_.lap(); }

 private:
  StepRequests agree_on_requests();

  const RunConfig& config_;
  const Mesh& mesh_;
  Stopwatch since_save_;
};

}  // namespace koios
