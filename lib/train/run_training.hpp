// A run of training from its plan to its last line.
#pragma once

#include <cstdint>

#include "comm/mesh_shape.hpp"
#include "config/run_config.hpp"
#include "core/exit_code.hpp"
#include "train/launch.hpp"

namespace koios {

/// How a run ended that did not fail; the same on every rank.
struct TrainingOutcome {
  std::int64_t steps_done = 0;
  ExitCode exit_code = ExitCode::done;
};

/// Trains as the deck says. Collective over all ranks. Throws on the rank where something failed;
/// main then ends the whole job.
TrainingOutcome run_training(const RunConfig& config, const MeshShape& mesh, const Launch& launch);

}  // namespace koios
