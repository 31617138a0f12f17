// Where each rank runs: the start-up table, and warnings for places that cost speed.
#pragma once

#include <string>
#include <vector>

#include "runtime/device.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

/// What is wrong where a rank's cores are all on other NUMA nodes than its GPU; "" where they are
/// not, or where the kernel does not tell (node -1, no nodes).
std::string far_gpu_problem(int gpu_node, const std::vector<int>& core_nodes);

/// One line a rank: host, GPU, its UUID, PCI place and NUMA node. Warns where two ranks share a
/// GPU, and of far ones. comm: gathers, collective over all ranks.
void print_places(const MpiEnv& mpi, const DeviceEnv& device);

}  // namespace koios
