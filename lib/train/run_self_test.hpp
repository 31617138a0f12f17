// koios --self-test: on the ranks, devices and mesh of a run, before anything is trained.
#pragma once

#include "comm/watchdog.hpp"
#include "config/run_config.hpp"
#include "core/exit_code.hpp"
#include "runtime/device.hpp"

namespace koios {

/// Prints where the ranks are, one table of what they measured, and what is wrong; leaves
/// self_test.json in the run folder. ExitCode::failure where anything is wrong. Collective.
ExitCode run_self_test(const RunConfig& config, const MeshShape& mesh_shape, const MpiEnv& mpi,
                       const DeviceEnv& device, FlightRecorder& recorder, Watchdog& watchdog);

}  // namespace koios
