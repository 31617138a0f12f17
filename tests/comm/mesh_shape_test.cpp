#include "comm/mesh_shape.hpp"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace koios {
namespace {

using enum Axis;

TEST(MeshShape, tp_is_the_fastest_axis_and_pp_the_slowest) {
  const MeshShape shape{{2, 1, 2, 1, 2}};
  struct Row {
    int rank, pp, ds, tp;
  };
  const std::vector<Row> table = {{0, 0, 0, 0}, {1, 0, 0, 1}, {2, 0, 1, 0}, {3, 0, 1, 1},
                                  {4, 1, 0, 0}, {5, 1, 0, 1}, {6, 1, 1, 0}, {7, 1, 1, 1}};
  ASSERT_EQ(shape.ranks(), static_cast<int>(table.size()));
  for (const Row& row : table) {
    EXPECT_EQ(shape.coordinate(row.rank, pp), row.pp) << row.rank;
    EXPECT_EQ(shape.coordinate(row.rank, dp_shard), row.ds) << row.rank;
    EXPECT_EQ(shape.coordinate(row.rank, tp), row.tp) << row.rank;
    EXPECT_EQ(shape.coordinate(row.rank, cp), 0);
    EXPECT_EQ(shape.coordinate(row.rank, dp_replicate), 0);
  }
}

/// rank = (((pp*DR + dr)*DS + ds)*CP + cp)*TP + tp, on a mesh whose extents all differ.
TEST(MeshShape, coordinates_make_up_the_rank) {
  const MeshShape shape{{2, 3, 5, 7, 4}};
  EXPECT_EQ(shape.ranks(), 840);
  EXPECT_EQ(shape.dp(), 15);
  for (int rank = 0; rank < shape.ranks(); ++rank) {
    int again = shape.coordinate(rank, pp);
    again = again * 3 + shape.coordinate(rank, dp_replicate);
    again = again * 5 + shape.coordinate(rank, dp_shard);
    again = again * 7 + shape.coordinate(rank, cp);
    again = again * 4 + shape.coordinate(rank, tp);
    ASSERT_EQ(again, rank);
    ASSERT_EQ(shape.dp_coordinate(rank),
              shape.coordinate(rank, dp_replicate) * 5 + shape.coordinate(rank, dp_shard));
  }
}

TEST(MeshShape, groups_differ_in_the_axes_left_out) {
  const MeshShape shape{{2, 3, 5, 7, 4}};
  std::map<int, std::vector<int>> shard_groups;
  for (int rank = 0; rank < shape.ranks(); ++rank) {
    shard_groups[shape.group_of(rank, {dp_shard, cp})].push_back(rank);
  }
  EXPECT_EQ(shard_groups.size(), 2U * 3U * 4U);
  for (const auto& [group, ranks] : shard_groups) {
    ASSERT_EQ(ranks.size(), 5U * 7U);
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      for (const Axis axis : {pp, dp_replicate, tp}) {
        ASSERT_EQ(shape.coordinate(ranks[i], axis), shape.coordinate(ranks[0], axis));
      }
      // Ordered by world rank: ds * CP + cp.
      ASSERT_EQ(shape.coordinate(ranks[i], dp_shard) * 7 + shape.coordinate(ranks[i], cp),
                static_cast<int>(i));
    }
  }
  EXPECT_EQ(shape.group_of(0, {pp, dp_replicate, dp_shard, cp, tp}),
            shape.group_of(839, {pp, dp_replicate, dp_shard, cp, tp}));
}

TEST(MeshShape, describes_itself) {
  EXPECT_EQ(MeshShape{}.describe(), "1 rank = pp 1 x dp 1 x cp 1 x tp 1");
  EXPECT_EQ((MeshShape{{1, 1, 4, 1, 2}}).describe(), "8 ranks = pp 1 x dp 4 x cp 1 x tp 2");
  EXPECT_EQ((MeshShape{{1, 2, 4, 1, 2}}).describe(), "16 ranks = pp 1 x dp 2 x 4 x cp 1 x tp 2");
}

}  // namespace
}  // namespace koios
