// Which memory domains (NUMA nodes) the cores of this process belong to, as Linux tells it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace koios {

/// The numbers of a kernel list such as "0-3,8,10-11"; what is not one ends it.
std::vector<int> parse_cpu_list(const std::string& text);

/// The nodes whose cores the calling thread may run on, ascending; empty where unknown.
/// nodes: where the kernel lists them (a test brings its own).
std::vector<int> numa_nodes_of_affinity(
    const std::filesystem::path& nodes = "/sys/devices/system/node");

}  // namespace koios
