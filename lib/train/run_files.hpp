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

  /// Warns of files of `data` that have changed, are gone or are new since they were last noted.
  RunFiles(const RunConfig& config, const Launch& launch, const std::vector<std::string>& hosts,
           const DataOptions& data);

  /// When the run has taken them for the data of the start before: until then each start names what
  /// has changed.
  void note_data_files() const;

 private:
  std::string data_files_;
};

}  // namespace koios
