#include "runtime/numa.hpp"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace koios {

std::vector<int> parse_cpu_list(const std::string& text) {
  std::vector<int> numbers;
  std::istringstream in(text);
  for (int first = 0; in >> first;) {
    int last = first;
    if (in.peek() == '-') {
      in.get();
      if (!(in >> last)) break;
    }
    for (int number = first; number <= last; ++number) numbers.push_back(number);
    if (in.get() != ',') break;
  }
  return numbers;
}

std::vector<int> numa_nodes_of_affinity(const std::filesystem::path& nodes) {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return {};
  std::vector<int> found;
  std::error_code unreadable;
  for (const auto& entry : std::filesystem::directory_iterator(nodes, unreadable)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("node", 0) != 0 || name.find_first_not_of("0123456789", 4) != name.npos) {
      continue;
    }
    std::ifstream file(entry.path() / "cpulist");
    std::string list;
    std::getline(file, list);
    const std::vector<int> cpus = parse_cpu_list(list);
    const bool ours = std::any_of(cpus.begin(), cpus.end(), [&](int cpu) {
      return cpu < CPU_SETSIZE && CPU_ISSET(static_cast<std::size_t>(cpu), &mask);
    });
    if (ours) found.push_back(std::stoi(name.substr(4)));
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace koios
