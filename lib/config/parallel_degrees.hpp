// The degrees of parallelism once the number of ranks is known.
#pragma once

#include <string>

#include "config/run_config.hpp"

namespace koios {

struct ParallelDegrees {
  int pp = 1;
  int dp_replicate = 1;
  int dp_shard = 1;
  int cp = 1;
  int tp = 1;

  bool operator==(const ParallelDegrees&) const = default;
};

/// Why the degrees do not make up `ranks`; empty where they do.
std::string mesh_problem(const ParallelConfig& parallel, int ranks);

/// Puts the number of ranks into the degree that is -1; mesh_problem() must be empty.
ParallelDegrees resolve_degrees(const ParallelConfig& parallel, int ranks);

}  // namespace koios
