// Rank 0's files: the run folder, held for as long as this lives, what says what ran there, and the
// metrics.
#pragma once

#include <string>
#include <vector>

#include "config/run_config.hpp"
#include "metrics/metrics_writer.hpp"
#include "metrics/run_folder.hpp"
#include "train/trainer.hpp"

namespace koios {

struct RunOutput {
  RunFolder folder;
  MetricsWriter metrics;

  RunOutput(const RunConfig& config, const Launch& launch, const std::vector<std::string>& hosts);
};

}  // namespace koios
