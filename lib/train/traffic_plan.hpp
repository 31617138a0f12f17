// What one step moves: payload bytes each rank sends. Measured bytes (Communicator::traffic) must
// equal it; docs/sharding.md derives the formulas.
#pragma once

#include <cstdint>

#include "pipeline/actions.hpp"
#include "train/training_shape.hpp"

namespace koios {

struct TrafficPlan {
  // Weights and gradients, between the ranks that share each parameter's rows.
  std::int64_t all_gather_bytes = 0;
  std::int64_t reduce_scatter_bytes = 0;
  // Gradient shards, between replicas.
  std::int64_t replica_all_reduce_bytes = 0;
  // Activations, between tensor-parallel ranks.
  std::int64_t tensor_all_gather_bytes = 0;
  std::int64_t tensor_reduce_scatter_bytes = 0;
  std::int64_t tensor_send_bytes = 0;  // parallel/async_tp: what replaces most of the two
  /// Statistics of the loss and gradients of replicated parameters, between tensor-parallel ranks,
  /// and the gradient norm, between all.
  std::int64_t all_reduce_bytes = 0;
  // Keys and values, and their gradients, between context-parallel ranks.
  std::int64_t context_all_gather_bytes = 0;
  std::int64_t context_reduce_scatter_bytes = 0;
  // Activations and their gradients, to the neighbouring stages.
  std::int64_t pipeline_bytes = 0;
};

/// Of a rank of the stage.
TrafficPlan plan_traffic(const TrainingShape& shape, int stage = 0);

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
