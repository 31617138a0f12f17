// How the degrees of the deck make up the ranks of the run.
#include "config/parallel_degrees.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace koios {
namespace {

ParallelConfig degrees(int dp, int replicate, int tp, int pp) {
  ParallelConfig p;
  p.data_parallel = dp;
  p.data_parallel_replicate = replicate;
  p.tensor_parallel = tp;
  p.pipeline_parallel = pp;
  return p;
}

TEST(ParallelDegrees, minus_one_is_what_is_left) {
  EXPECT_EQ(resolve_degrees(degrees(-1, 1, 1, 1), 7), (ParallelDegrees{1, 1, 7, 1, 1}));
  EXPECT_EQ(resolve_degrees(degrees(-1, 2, 4, 2), 48), (ParallelDegrees{2, 2, 3, 1, 4}));
  EXPECT_EQ(resolve_degrees(degrees(6, 2, 4, 2), 48), (ParallelDegrees{2, 2, 3, 1, 4}));
}

TEST(ParallelDegrees, problems_say_the_product) {
  EXPECT_EQ(mesh_problem(degrees(-1, 1, 1, 1), 5), "");
  EXPECT_EQ(mesh_problem(degrees(0, 1, 1, 1), 5),
            "data_parallel_degree = 0: expected -1 or at least 1");
  EXPECT_EQ(mesh_problem(degrees(-1, 1, 4, 1), 6),
            "6 ranks cannot be divided by pipeline 1 x context 1 x tensor 4 = 4");
  EXPECT_EQ(mesh_problem(degrees(3, 1, 1, 1), 2),
            "data_parallel_degree = 3: pipeline 1 x data 3 x context 1 x tensor 1 makes 3 ranks, "
            "the run has 2; -1 takes what is left");
  EXPECT_EQ(mesh_problem(degrees(-1, 2, 1, 1), 3),
            "data_parallel_replicate_degree = 2: does not divide the data-parallel degree 3");
  EXPECT_THROW(resolve_degrees(degrees(3, 1, 1, 1), 2), InvariantError);
}

}  // namespace
}  // namespace koios
