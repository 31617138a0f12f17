// Rows, padding and neighbourhood of shards, by hand.
#include "shard/layout.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "shard/unit_view.hpp"

namespace koios {
namespace {

ParameterSpec matrix(const char* name, std::int64_t rows, std::int64_t cols) {
  return {name, rows, cols, false, {}};
}

const std::vector<UnitSpec> kUnits = {
    {"trio", {matrix("q", 8, 64), matrix("k", 4, 64), matrix("v", 4, 64)}}};

TEST(ShardLayout, even_rows_make_neighbours_one_matrix) {
  const ShardLayout layout(kUnits, 4, 1);
  const ParameterLayout& q = layout.unit(0).parameters[0];
  EXPECT_EQ(q.part_rows, 2);
  EXPECT_EQ(q.first_row, 2);
  EXPECT_EQ(q.rows_here, 2);
  EXPECT_EQ(layout.parameter_count(), 16 * 64);
  EXPECT_EQ(layout.unit(0).gathered_elements(4), 16 * 64);

  std::vector<float> full(static_cast<std::size_t>(layout.unit(0).full_size));
  const UnitView<float> view(layout.unit(0), full.data());
  const auto stacked = view.stacked(0, 2);
  ASSERT_EQ(stacked.size(), 1U);
  EXPECT_EQ(stacked[0].matrix.extent[0], 16);
  EXPECT_EQ(stacked[0].matrix.extent[1], 64);
}

TEST(ShardLayout, uneven_rows_are_padded_and_stay_apart) {
  const ShardLayout layout(kUnits, 3, 2);
  const auto& p = layout.unit(0).parameters;
  EXPECT_EQ(p[0].part_rows, 3);  // 3 + 3 + 2
  EXPECT_EQ(p[0].rows_here, 2);
  EXPECT_EQ(p[1].part_rows, 2);  // 2 + 2 + 0
  EXPECT_EQ(p[1].first_row, 4);
  EXPECT_EQ(p[1].rows_here, 0);
  EXPECT_EQ(layout.unit(0).gathered_elements(3), (9 + 6 + 6) * 64);

  std::vector<float> full(static_cast<std::size_t>(layout.unit(0).full_size));
  const UnitView<float> view(layout.unit(0), full.data());
  const auto stacked = view.stacked(0, 2);
  ASSERT_EQ(stacked.size(), 3U);
  EXPECT_EQ(stacked[1].first_row, 8);
  EXPECT_EQ(stacked[2].first_row, 12);
  EXPECT_EQ(stacked[2].matrix.extent[0], 4);
}

TEST(ShardLayout, parts_cover_every_row_once) {
  for (int ranks = 1; ranks <= 9; ++ranks) {
    std::int64_t next = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto& q = ShardLayout(kUnits, ranks, rank).unit(0).parameters[0];
      if (q.rows_here > 0) {
        EXPECT_EQ(q.first_row, next) << rank << " of " << ranks;
      }
      next += q.rows_here;
    }
    EXPECT_EQ(next, 8) << ranks;
  }
}

}  // namespace
}  // namespace koios
