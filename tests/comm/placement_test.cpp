// What is said of groups and nodes, on placements as launchers make them.
#include "comm/placement.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace koios {
namespace {

using Lines = std::vector<std::string>;

/// Ranks on `nodes` nodes, one node after the other or dealt out.
Lines in_blocks(int ranks, int nodes) {
  Lines names;
  for (int rank = 0; rank < ranks; ++rank) names.push_back(cat("n", rank * nodes / ranks));
  return names;
}
Lines dealt_out(int ranks, int nodes) {
  Lines names;
  for (int rank = 0; rank < ranks; ++rank) names.push_back(cat("n", rank % nodes));
  return names;
}

TEST(Placement, of_one_node_there_is_nothing_to_say) {
  const Placement placement = find_placement({{1, 2, 2, 1, 1}}, in_blocks(4, 1));
  EXPECT_EQ(placement.lines, Lines{});
  EXPECT_EQ(placement.warnings, Lines{});
}

TEST(Placement, replicas_over_nodes_are_as_they_should_be) {
  const Placement placement = find_placement({{1, 2, 2, 1, 2}}, in_blocks(8, 2));
  EXPECT_EQ(placement.lines,
            (Lines{"2 nodes (n0: ranks 0-3; n1: ranks 4-7)",
                   "tensor-parallel groups within a node, shard groups within a node, replicas "
                   "over 2 nodes"}));
  EXPECT_EQ(placement.warnings, Lines{});
}

TEST(Placement, ranks_dealt_out_are_warned_of) {
  const Placement placement = find_placement({{1, 2, 2, 1, 2}}, dealt_out(8, 2));
  EXPECT_EQ(placement.lines[0], "2 nodes (n0: ranks 0, 2, 4, 6; n1: ranks 1, 3, 5, 7)");
  EXPECT_EQ(placement.lines[1],
            "tensor-parallel groups over 2 nodes, shard groups within a node, replicas within a "
            "node");
  EXPECT_EQ(
      placement.warnings,
      Lines{"tensor-parallel groups cross nodes and need not: ranks 0 and 1 are on n0 and "
            "n1; place ranks node by node (srun --distribution=block, mpirun --map-by slot)"});
  const Placement shards = find_placement({{1, 2, 4, 1, 1}}, dealt_out(8, 2));
  ASSERT_EQ(shards.warnings.size(), 1U);
  EXPECT_TRUE(
      shards.warnings[0].starts_with("shard groups cross nodes and need not: ranks 0 and 1"))
      << shards.warnings[0];
}

TEST(Placement, ranks_that_share_a_sequence_belong_together) {
  const MeshShape shape{{1, 2, 1, 2, 2}};
  EXPECT_EQ(find_placement(shape, in_blocks(8, 2)).lines[1],
            "tensor-parallel groups within a node, context-parallel groups within a node, shard "
            "groups within a node, replicas over 2 nodes");
  const Lines by_pairs = {"a", "a", "b", "b", "a", "a", "b", "b"};
  const Lines warnings = find_placement(shape, by_pairs).warnings;
  ASSERT_EQ(warnings.size(), 2U);
  EXPECT_TRUE(
      warnings[0].starts_with("context-parallel groups cross nodes and need not: ranks 0 "
                              "and 2 are on a and b"))
      << warnings[0];
}

TEST(Placement, what_must_cross_nodes_is_no_warning) {
  const Placement wide = find_placement({{1, 1, 1, 1, 8}}, in_blocks(8, 2));
  EXPECT_EQ(wide.lines[1], "tensor-parallel groups over 2 nodes");
  EXPECT_EQ(wide.warnings, Lines{});
  const Lines uneven = {"a", "a", "a", "b"};
  EXPECT_EQ(find_placement({{1, 1, 2, 1, 2}}, uneven).warnings, Lines{});
}

TEST(Placement, shards_over_nodes_are_told_of_replicas) {
  const Lines lines = find_placement({{1, 1, 8, 1, 2}}, in_blocks(16, 4)).lines;
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[2],
            "training/data_parallel_replicate_degree = 4 would keep shard groups within a node "
            "(--dry-run says what a rank then holds)");
  // Stages have a node each already.
  EXPECT_EQ(find_placement({{2, 1, 4, 1, 1}}, in_blocks(8, 2)).lines.size(), 2U);
}

TEST(Placement, of_many_nodes_some_are_shown) {
  const Placement placement = find_placement({{1, 16, 2, 1, 1}}, in_blocks(32, 16));
  EXPECT_TRUE(placement.lines[0].starts_with("16 nodes (n0: ranks 0, 1; ")) << placement.lines[0];
  EXPECT_TRUE(placement.lines[0].ends_with("; n7: ranks 14, 15; ...)")) << placement.lines[0];
}

}  // namespace
}  // namespace koios
