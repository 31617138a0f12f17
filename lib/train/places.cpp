#include "train/places.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/log.hpp"
#include "runtime/numa.hpp"

namespace koios {

std::string far_gpu_problem(int gpu_node, const std::vector<int>& core_nodes) {
  const bool is_near =
      std::find(core_nodes.begin(), core_nodes.end(), gpu_node) != core_nodes.end();
  if (gpu_node < 0 || core_nodes.empty() || is_near) return "";
  std::string nodes;
  for (const int node : core_nodes) nodes += cat(nodes.empty() ? "" : ",", node);
  return cat("its GPU is on NUMA node ", gpu_node, ", its cores on ", nodes,
             ": bind it nearer (mpirun --bind-to none or --map-by numa, srun --gpu-bind=closest)");
}

void print_places(const MpiEnv& mpi, const DeviceEnv& env) {
  const DeviceInfo& device = env.info();
  if (env.backend() == Backend::host) {
    const std::vector<std::string> places = mpi.all_gather(cat(mpi.host(), "  ", device.name));
    for (std::size_t rank = 0; rank < places.size(); ++rank) {
      log::info("rank ", rank, "  ", places[rank]);
    }
    return;
  }
  const std::vector<std::string> places =
      mpi.all_gather(cat(mpi.host(), "  ", device.name, "  ", device.uuid, "  pci ", device.pci_bus,
                         "  numa ", device.numa_node));
  const std::vector<std::string> uuids = mpi.all_gather(device.uuid);
  const std::vector<std::string> problems =
      mpi.all_gather(far_gpu_problem(device.numa_node, numa_nodes_of_affinity()));
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    log::info("rank ", rank, "  ", places[rank]);
    const auto first = std::find(uuids.begin(), uuids.end(), uuids[rank]) - uuids.begin();
    if (static_cast<std::size_t>(first) < rank) {
      log::info("warning: ranks ", first, " and ", rank, " share a GPU; start one rank per GPU");
    }
    if (!problems[rank].empty()) log::info("warning: rank ", rank, ": ", problems[rank]);
  }
}

}  // namespace koios
