// What a machine gives the ranks of a job, measured on all of them at once: an hour of waiting in a
// queue is well spent if it does not go to a job that one slow GPU or one wrong clock holds up.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "comm/mesh.hpp"
#include "core/dtype.hpp"
#include "measure/machine_rates.hpp"
#include "measure/outliers.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

struct SelfTestReport {
  std::vector<Measurement> measurements;
  std::vector<std::string> findings;  // what is wrong, one line each; empty: nothing
  MachineRates rates;                 // of the slowest rank each: what a step can count on
};

/// Products and attention in `compute`, a copy in the device's memory, an all-reduce of each axis
/// of the mesh, 64 MiB that each rank writes to `folder` and removes, host memory, clocks. The same
/// report on every rank. Collective.
SelfTestReport self_test(const MpiEnv& mpi, const Mesh& mesh, Backend backend, DType compute,
                         const std::filesystem::path& folder);

/// As JSON, with the value of every rank, and the rates for --dry-run --rates.
std::string to_json(const SelfTestReport& report, const std::vector<std::string>& hosts);

}  // namespace koios
