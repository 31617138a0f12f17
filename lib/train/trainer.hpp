// The training loop: data, step, log. Everything that the run holds lives here, in the order in
// which it must end.
#pragma once

#include <string>
#include <vector>

#include "config/run_config.hpp"
#include "core/phase_clock.hpp"
#include "runtime/device.hpp"
#include "runtime/mpi_env.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// What main hands over beside the configuration.
struct Launch {
  const MpiEnv& mpi;
  const DeviceEnv& device;
  PhaseClock& start;
  std::vector<std::string> command_line;
  std::string effective_deck;
  std::vector<std::pair<std::string, std::string>> library_versions;
};

/// Trains as the deck says. Collective over all ranks. Throws on the rank where something failed;
/// main then ends the whole job.
void run_training(const RunConfig& config, const MeshShape& mesh, const Launch& launch);

}  // namespace koios
