// How long a step would take on a machine with given rates, part by part, for any mesh: the work of
// the step's own list of actions (step_work.hpp) over the rates, what communication cannot hide
// behind, and the time in which pipeline stages wait for each other. docs/planning.md explains the
// model and compares it with what was measured.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "measure/machine_rates.hpp"
#include "train/node_groups.hpp"
#include "train/training_shape.hpp"

namespace koios {

enum class StepPart {
  gemm,
  attention,
  elementwise,
  casts,
  optimizer,
  recomputed,            // all that is computed a second time
  beside_communication,  // what hidden communication takes from the computation beside it
  // What nothing hides, by axis.
  gather,
  reduce,
  replicate,
  tensor,
  context,
  pipeline,
  bubble  // stages that wait for stages
};
inline constexpr int kStepParts = 14;
const char* to_string(StepPart part);

struct StepTime {
  std::array<double, kStepParts> seconds{};
  int stage = 0;  // the one of the pipeline that takes longest: its figures

  double& operator[](StepPart part) { return seconds[static_cast<std::size_t>(part)]; }
  double operator[](StepPart part) const { return seconds[static_cast<std::size_t>(part)]; }
  double total() const;
  /// Of all axes.
  double exposed() const;
};

/// UserError where the rates lack one that the shape needs, or are of another compute type.
StepTime predict_step(const TrainingShape& shape, const MachineRates& rates, Nodes nodes);

/// What a step's time means, for a rank and for a run.
struct RunPrediction {
  double step_s = 0;
  double tokens_per_s = 0;  // of one rank
  double mfu = 0;           // of the bf16 peak, 0 where that is not known
  double run_s = 0;         // to so many tokens
  double energy_kwh = 0;    // of all ranks' GPUs, 0 where their power is not known
};

RunPrediction predict_run(const TrainingShape& shape, const StepTime& time,
                          const MachineRates& rates, double tokens);

/// Lines without newline: each part with its share of the step, then what that makes. One line that
/// says so where the rates are of another compute type.
std::vector<std::string> describe_prediction(const TrainingShape& shape, const MachineRates& rates,
                                             Nodes nodes, double tokens);

}  // namespace koios
