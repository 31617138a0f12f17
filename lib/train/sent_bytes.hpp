// Payload bytes that a rank sends, by what for: planned (train/traffic_plan.hpp) or measured.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comm/mesh.hpp"

namespace koios {

struct SentBytes {
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

  SentBytes operator+(const SentBytes& other) const;
  SentBytes operator-(const SentBytes& other) const;
  SentBytes operator/(std::int64_t steps) const;
};

/// By this rank since the start, except what its communicators do not count (Traffic).
SentBytes measured_bytes(const Mesh& mesh);

/// A line, without newline, for each axis that the mesh has more than one rank of. kind: plan or
/// measured.
std::vector<std::string> describe_traffic(std::string_view kind, const SentBytes& of_step,
                                          const MeshShape& mesh);

}  // namespace koios
