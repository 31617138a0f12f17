// Whether the ranks of a node find room in its memory, before any of them takes some: each for
// itself would see what is free, and together they would be killed.
#pragma once

#include <cstdint>
#include <string>

#include "core/free_memory.hpp"
#include "runtime/arena.hpp"
#include "runtime/mpi_env.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// Bytes of one rank in host memory.
struct HostMemory {
  std::int64_t plan = 0;     // the memory plan; 0 where a GPU holds it
  std::int64_t staging = 0;  // of asynchronous saves, taken after the first step
  DType moments = DType::float32;
};

/// Why `ranks` of these do not fit, and what to do; empty where they do.
std::string host_memory_problem(const HostMemory& each, int ranks, const FreeMemory& free);

/// UserError where this node has not enough for its ranks.
void require_host_memory(const TrainingShape& shape, const MemoryPlan& plan, const MpiEnv& mpi);

}  // namespace koios
