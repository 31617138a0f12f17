#include "runtime/numa.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <fstream>

namespace koios {
namespace {

TEST(Numa, kernel_lists) {
  EXPECT_EQ(parse_cpu_list("0-3,8,10-11\n"), (std::vector<int>{0, 1, 2, 3, 8, 10, 11}));
  EXPECT_EQ(parse_cpu_list("5"), (std::vector<int>{5}));
  EXPECT_EQ(parse_cpu_list(""), std::vector<int>{});
  EXPECT_EQ(parse_cpu_list("1,x"), (std::vector<int>{1}));
}

TEST(Numa, nodes_of_the_cores_this_thread_may_use) {
  const int cpu = sched_getcpu();
  const auto folder = std::filesystem::path(testing::TempDir()) / "koios_numa";
  const auto add = [&](const std::string& name, const std::string& list) {
    std::filesystem::create_directories(folder / name);
    std::ofstream(folder / name / "cpulist") << list << "\n";
  };
  add("node3", std::to_string(cpu));
  add("node1", "0-1023");
  add("node2", "2000-2003");  // cores of another machine
  add("power", "0-1023");
  EXPECT_EQ(numa_nodes_of_affinity(folder), (std::vector<int>{1, 3}));
  EXPECT_EQ(numa_nodes_of_affinity(folder / "absent"), std::vector<int>{});
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace koios
