#include <gtest/gtest.h>

#include "train/start_report.hpp"

namespace koios {
namespace {

TEST(Places, a_far_gpu_is_named_with_both_nodes) {
  EXPECT_NE(far_gpu_problem(1, {0}).find("GPU is on NUMA node 1, its cores on 0:"),
            std::string::npos);
  EXPECT_NE(far_gpu_problem(0, {2, 3}).find("its cores on 2,3:"), std::string::npos);
}

TEST(Places, near_and_unknown_ones_are_not) {
  EXPECT_EQ(far_gpu_problem(1, {0, 1}), "");
  EXPECT_EQ(far_gpu_problem(-1, {0}), "");
  EXPECT_EQ(far_gpu_problem(1, {}), "");
}

}  // namespace
}  // namespace koios
