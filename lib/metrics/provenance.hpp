// provenance.json in the run folder: what ran, where and how. An array with one object a start, so
// that a run continued by several jobs keeps all of them. Rank 0 only.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "metrics/run_folder.hpp"

namespace koios {

struct Provenance {
  std::vector<std::string> command_line;                       // argv
  std::vector<std::pair<std::string, std::string>> libraries;  // name, version
  std::vector<std::string> hosts;                              // of every rank, in rank order
  int threads_per_rank = 1;
  std::chrono::system_clock::time_point start = std::chrono::system_clock::now();
};

/// Adds this start to the file, with what build_info.hpp says and the Slurm job id, if any.
/// Throws UserError if it cannot be written; the old file is whole at every instant.
void write_provenance(const RunFolder& folder, const Provenance& provenance);

/// "2026-11-22T18:33:53Z".
std::string iso_time_utc(std::chrono::system_clock::time_point time);

}  // namespace koios
