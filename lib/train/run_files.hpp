// What rank 0 keeps in the run folder, which it holds for as long as this lives: the metrics, and
// what says what ran there (effective.ini, provenance.json, data_files.txt).
#pragma once

#include <string>
#include <vector>

#include "config/run_config.hpp"
#include "data/data_options.hpp"
#include "metrics/metrics_writer.hpp"
#include "metrics/run_folder.hpp"
#include "train/launch.hpp"

namespace koios {

struct RunFiles {
  RunFolder folder;
  MetricsWriter metrics;

  /// Warns of files of `data` that have changed, or are gone, since the last start in this folder.
  RunFiles(const RunConfig& config, const Launch& launch, const std::vector<std::string>& hosts,
           const DataOptions& data);
};

}  // namespace koios
