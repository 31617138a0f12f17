// What is printed at the start: the plan in words (what a rank will hold and send), also by
// --dry-run for any mesh, and the places where the ranks run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/arena.hpp"
#include "runtime/device.hpp"
#include "runtime/mpi_env.hpp"
#include "train/traffic_plan.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// Lines without newline. device_bytes: what the device has, where that is known.
std::vector<std::string> describe_plan(const TrainingShape& shape,
                                       std::optional<std::int64_t> device_bytes);

/// What each choice of recomputation would keep: the user's choice in figures.
std::string describe_recomputation(const TrainingShape& shape);

/// "model 7B: 6,738,415,616 parameters, 32 layers, ..."; name: the flavor.
std::string describe_model(const std::string& name, const ModelSpec& model);

/// What is wrong where a rank's cores are all on other NUMA nodes than its GPU; "" where they are
/// not, or where the kernel does not tell (node -1, no nodes).
std::string far_gpu_problem(int gpu_node, const std::vector<int>& core_nodes);

/// One line a rank: host, GPU, its UUID, PCI place and NUMA node. Then, of several nodes, what lies
/// where. Warns where two ranks share a GPU, of far ones, and of groups that cross nodes and need
/// not. comm: gathers, collective over all ranks.
void print_places(const MpiEnv& mpi, const DeviceEnv& device, const MeshShape& mesh);

}  // namespace koios
