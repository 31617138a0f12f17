// Rows, padding and neighbourhood of shards, by hand.
#include "shard/layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "shard/parameter_slices.hpp"
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
      const ShardLayout layout(kUnits, ranks, rank);
      const ParameterLayout& q = layout.unit(0).parameters[0];
      if (q.rows_here > 0) {
        EXPECT_EQ(q.first_row, next) << rank << " of " << ranks;
      }
      next += q.rows_here;
    }
    EXPECT_EQ(next, 8) << ranks;
  }
}

TEST(ShardLayout, tensor_parallel_parts_come_before_rows) {
  ParameterSpec by_rows = matrix("wq", 16, 6);
  by_rows.split = Split::rows;
  ParameterSpec by_columns = matrix("wo", 5, 8);
  by_columns.split = Split::columns;
  const ParameterSpec whole = matrix("norm", 5, 1);
  const ShardLayout layout({{"unit", {by_rows, whole, by_columns}}}, 3, 1, {2, 1});
  const auto& p = layout.unit(0).parameters;
  EXPECT_EQ(p[0].rows, 8);  // rows 8..15, as 3 + 3 + 2
  EXPECT_EQ(p[0].cols, 6);
  EXPECT_EQ(p[0].first_row, 8 + 3);
  EXPECT_EQ(p[0].rows_here, 3);
  EXPECT_EQ(p[1].first_row, 2);  // as 2 + 2 + 1
  EXPECT_EQ(p[2].rows, 5);
  EXPECT_EQ(p[2].cols, 4);  // columns 4..7
  EXPECT_EQ(p[2].first_row, 2);
  EXPECT_EQ(p[2].first_col, 4);
  EXPECT_EQ(layout.parameter_count(), 16 * 6 + 5 + 5 * 8);
  EXPECT_EQ(layout.unit(0).gathered_elements(3), 9 * 6 + 6 + 6 * 4);

  const auto slices = parameter_slices(layout);
  EXPECT_EQ(slices[2].first_col, 4);
  EXPECT_EQ(slices[2].local_cols, 4);
  EXPECT_TRUE(slices[0].is_owner);
  EXPECT_FALSE(slices[1].is_owner);
}

TEST(ShardLayout, every_element_is_counted_once) {
  ParameterSpec split = matrix("wq", 16, 6);
  split.split = Split::rows;
  const std::vector<UnitSpec> units = {{"a", {matrix("norm", 5, 1), split}},
                                       {"b", {split, matrix("norm", 7, 1)}}};
  for (const int tensor_ranks : {1, 2, 4}) {
    std::int64_t counted = 0;
    for (int tensor = 0; tensor < tensor_ranks; ++tensor) {
      for (int rank = 0; rank < 3; ++rank) {
        const ShardLayout layout(units, 3, rank, {tensor_ranks, tensor});
        // Ones where there are values, zeros in padding and gaps.
        std::vector<int> shard(static_cast<std::size_t>(layout.shard_size()));
        for (const UnitLayout& unit : layout.units()) {
          for (const ParameterLayout& p : unit.parameters) {
            std::fill_n(shard.begin() + p.shard_offset, p.rows_here * p.cols, 1);
          }
        }
        for (const ShardRange& range : layout.counted()) {
          const auto begin = shard.begin() + range.first;
          counted += std::accumulate(begin, begin + range.size, 0);
        }
      }
    }
    EXPECT_EQ(counted, 2 * 16 * 6 + 5 + 7) << tensor_ranks;
  }
}

}  // namespace
}  // namespace koios
