// Rows, padding and neighbourhood of shards, by hand.
#include "shard/layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "shard/slots.hpp"
#include "shard/unit_view.hpp"

namespace koios {
namespace {

ParameterSpec matrix(const char* name, std::int64_t rows, std::int64_t cols) {
  return {name, rows, cols, false, {}};
}

const std::vector<UnitSpec> kUnits = {
    {"trio", UnitRole::block, {matrix("q", 8, 64), matrix("k", 4, 64), matrix("v", 4, 64)}}};

TEST(Range, meets_and_splits) {
  EXPECT_EQ(intersect({2, 5}, {4, 9}), (Range{4, 3}));
  EXPECT_EQ(intersect({4, 9}, {2, 5}), (Range{4, 3}));
  EXPECT_EQ(intersect({2, 2}, {4, 9}).count, 0);
  EXPECT_EQ(intersect({6, 2}, {0, 4}), (Range{4, 0}));  // behind the end
  EXPECT_EQ(in_pieces({3, 7}, 3), (std::vector<Range>{{3, 3}, {6, 3}, {9, 1}}));
  EXPECT_EQ(in_pieces({3, 6}, 3), (std::vector<Range>{{3, 3}, {6, 3}}));
  EXPECT_TRUE(in_pieces({3, 0}, 3).empty());
  EXPECT_EQ((Range{5, 2}.from(3)), (Range{2, 2}));
}

TEST(ShardLayout, even_rows_make_neighbours_one_matrix) {
  const ShardLayout layout(kUnits, {.ranks = 4, .rank = 1});
  const ParameterLayout& q = layout.unit(0).parameters[0];
  EXPECT_EQ(q.part_rows, 2);
  EXPECT_EQ(q.here.rows.first, 2);
  EXPECT_EQ(q.here.rows.count, 2);
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
  const ShardLayout layout(kUnits, {.ranks = 3, .rank = 2});
  const auto& p = layout.unit(0).parameters;
  EXPECT_EQ(p[0].part_rows, 3);  // 3 + 3 + 2
  EXPECT_EQ(p[0].here.rows.count, 2);
  EXPECT_EQ(p[1].part_rows, 2);  // 2 + 2 + 0
  EXPECT_EQ(p[1].here.rows.first, 4);
  EXPECT_EQ(p[1].here.rows.count, 0);
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
      const ShardLayout layout(kUnits, {.ranks = ranks, .rank = rank});
      const ParameterLayout& q = layout.unit(0).parameters[0];
      if (q.here.rows.count > 0) {
        EXPECT_EQ(q.here.rows.first, next) << rank << " of " << ranks;
      }
      next += q.here.rows.count;
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
  const ShardLayout layout({{"unit", UnitRole::block, {by_rows, whole, by_columns}}},
                           {.ranks = 3, .rank = 1, .tensor = {2, 1}});
  const auto& p = layout.unit(0).parameters;
  EXPECT_EQ(p[0].rows, 8);  // rows 8..15, as 3 + 3 + 2
  EXPECT_EQ(p[0].cols, 6);
  EXPECT_EQ(p[0].here.rows.first, 8 + 3);
  EXPECT_EQ(p[0].here.rows.count, 3);
  EXPECT_EQ(p[1].here.rows.first, 2);  // as 2 + 2 + 1
  EXPECT_EQ(p[2].rows, 5);
  EXPECT_EQ(p[2].cols, 4);  // columns 4..7
  EXPECT_EQ(p[2].here.rows.first, 2);
  EXPECT_EQ(p[2].here.cols.first, 4);
  EXPECT_EQ(layout.parameter_count(), 16 * 6 + 5 + 5 * 8);
  EXPECT_EQ(layout.unit(0).gathered_elements(3), 9 * 6 + 6 + 6 * 4);

  EXPECT_EQ(p[2].here.cols.count, 4);
  EXPECT_TRUE(layout.is_first_holder(p[0]));
  EXPECT_FALSE(layout.is_first_holder(p[1]));
}

TEST(ShardLayout, every_element_is_counted_once) {
  ParameterSpec split = matrix("wq", 16, 6);
  split.split = Split::rows;
  const std::vector<UnitSpec> units = {{"a", UnitRole::block, {matrix("norm", 5, 1), split}},
                                       {"b", UnitRole::block, {split, matrix("norm", 7, 1)}}};
  for (const int tensor_ranks : {1, 2, 4}) {
    std::int64_t counted = 0;
    for (int tensor = 0; tensor < tensor_ranks; ++tensor) {
      for (int number = 0; number < 3 * 2; ++number) {
        const ShardLayout layout(units, {.ranks = 3,
                                         .rank = number % 3,
                                         .tensor = {tensor_ranks, tensor},
                                         .replica = number / 3});
        // Ones where there are values, zeros in padding and gaps.
        std::vector<int> shard(static_cast<std::size_t>(layout.shard_size()));
        for (const UnitLayout& unit : layout.units()) {
          for (const ParameterLayout& p : unit.parameters) {
            std::fill_n(shard.begin() + p.in_shard.first, p.here.size(), 1);
          }
        }
        for (const Range& range : layout.counted()) {
          const auto begin = shard.begin() + range.first;
          counted += std::accumulate(begin, begin + range.count, 0);
        }
      }
    }
    EXPECT_EQ(counted, 2 * 16 * 6 + 5 + 7) << tensor_ranks;
  }
}

// A stage of a pipeline keeps every unit's number and has rows of its own units only.
TEST(ShardLayout, units_of_other_stages_have_no_rows_here) {
  const std::vector<UnitSpec> units = {{"embedding", UnitRole::embedding, {matrix("e", 6, 64)}},
                                       {"layers.0", UnitRole::block, {matrix("a", 8, 64)}},
                                       {"layers.1", UnitRole::block, {matrix("b", 8, 64)}},
                                       {"head", UnitRole::head, {matrix("h", 6, 64)}}};
  const ShardLayout layout(units, {.ranks = 2, .rank = 1, .runs = {{2, 3}}});
  EXPECT_EQ(layout.parameter_count(), 28 * 64);
  EXPECT_EQ(layout.shard_size(), (4 + 3) * 64 + 64);  // the head's rows end at an aligned place
  EXPECT_EQ(layout.held(UnitRole::block), std::vector<int>{2});
  EXPECT_EQ(layout.unit(2).layer, 1);
  EXPECT_EQ(layout.unit(2).in_shard.first, 0);
  EXPECT_EQ(layout.unit(1).parameters[0].here.size(), 0);
  EXPECT_EQ(layout.unit(1).parameters[0].in_shard.count, 0);
  EXPECT_EQ(layout.unit(2).parameters[0].here.rows, (Range{4, 4}));
  EXPECT_EQ(slots_of_units(layout, 2), (std::vector<int>{-1, -1, 0, 1}));
}

// Of ranks that hold the same elements, one speaks for them.
TEST(ShardLayout, the_first_holder_speaks) {
  ParameterSpec split = matrix("wq", 16, 6);
  split.split = Split::rows;
  const std::vector<UnitSpec> units = {{"a", UnitRole::block, {matrix("norm", 5, 1), split}}};
  const auto speaks = [&](int tensor, int replica, int parameter) {
    const ShardLayout layout(units, {.tensor = {2, tensor}, .replica = replica});
    return layout.is_first_holder(layout.unit(0).parameters[static_cast<std::size_t>(parameter)]);
  };
  EXPECT_TRUE(speaks(0, 0, 0));
  EXPECT_FALSE(speaks(1, 0, 0));
  EXPECT_TRUE(speaks(1, 0, 1));
  EXPECT_FALSE(speaks(0, 1, 0));
  EXPECT_FALSE(speaks(1, 1, 1));
}

}  // namespace
}  // namespace koios
