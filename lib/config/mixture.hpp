// data/mixture: several datasets and the share of the samples that each has, written
//   DATASET:PATH:WEIGHT, DATASET:PATH:WEIGHT, ...
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/run_config.hpp"

namespace koios {

struct MixturePart {
  DatasetKind dataset = DatasetKind::text;
  std::string path;
  double weight = 1;  // relative to the others
};

/// The parts, or what is wrong in `problem`. An empty text has no parts.
std::vector<MixturePart> parse_mixture(std::string_view text, std::string& problem);

}  // namespace koios
