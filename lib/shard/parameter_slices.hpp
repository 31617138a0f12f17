// What this rank holds of each parameter, as slices of the whole arrays: all that a checkpoint
// needs to know of the layout.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shard/layout.hpp"

namespace koios {

struct ParameterSlice {
  std::string name;
  bool is_vector = false;
  std::int64_t rows = 0, cols = 0;  // of the whole parameter
  std::int64_t first_row = 0, first_col = 0;
  std::int64_t local_rows = 0, local_cols = 0;  // real ones, without padding
  std::int64_t shard_offset = 0;  // of the slice in the flat shard, where it is contiguous
  bool is_first_holder = true;    // ShardLayout::is_first_holder
};

/// In the order of the layout. Every rank has every parameter, some of them with no rows.
std::vector<ParameterSlice> parameter_slices(const ShardLayout& layout);

}  // namespace koios
