// What one step moves: payload bytes each rank sends. Measured bytes must equal it;
// docs/sharding.md derives the formulas.
#pragma once

#include <cstdint>

#include "pipeline/actions.hpp"
#include "train/sent_bytes.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// Of a rank of the stage.
SentBytes plan_traffic(const TrainingShape& shape, int stage = 0);

/// How many activations [N, D] the tensor-parallel ranks gather and reduce-scatter for an action of
/// the unit. narrow_gathers: in 8 bits; amaxes: floats that they share before.
struct Exchanges {
  std::int64_t gathers = 0, reduce_scatters = 0, narrow_gathers = 0, amaxes = 0;
};
Exchanges exchanges_of(const Action& action, const TrainingShape& shape, const UnitLayout& unit);

/// What a rank sends the other context-parallel ranks for an action of the unit.
struct ContextBytes {
  std::int64_t all_gather = 0, reduce_scatter = 0;
};
ContextBytes context_bytes_of(const Action& action, const TrainingShape& shape,
                              const LocalShape& local, const UnitLayout& unit);

}  // namespace koios
