// What one step moves: payload bytes each rank sends in gathers and reduce-scatters. Measured
// bytes (Communicator::traffic) must equal it; docs/sharding.md derives the formulas.
#pragma once

#include <cstdint>

#include "train/training_shape.hpp"

namespace koios {

struct TrafficPlan {
  std::int64_t all_gather_bytes = 0;
  std::int64_t reduce_scatter_bytes = 0;
};

TrafficPlan plan_traffic(const TrainingShape& shape);

}  // namespace koios
