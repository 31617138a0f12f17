// Blocking helpers for a few numbers in host memory: metrics, agreement on signals, barriers.
#pragma once

#include <span>

#include "comm/communicator.hpp"

namespace koios {

/// Element by element over the ranks of `group`, which must be over MPI (Mesh::host_world).
void all_reduce_sum(Communicator& group, std::span<double> values);
void all_reduce_max(Communicator& group, std::span<double> values);
void all_reduce_min(Communicator& group, std::span<double> values);
/// Returns once every rank of the group has called it.
void barrier(Communicator& group);

}  // namespace koios
