#include "shard/parameter_slices.hpp"

namespace koios {

std::vector<ParameterSlice> parameter_slices(const ShardLayout& layout) {
  std::vector<ParameterSlice> slices;
  for (const UnitLayout& unit : layout.units()) {
    for (const ParameterLayout& p : unit.parameters) {
      slices.push_back({.name = p.spec.name,
                        .is_vector = p.spec.is_vector,
                        .rows = p.spec.rows,
                        .cols = p.spec.cols,
                        .first_row = p.first_row,
                        .first_col = p.first_col,
                        .local_rows = p.rows_here,
                        .local_cols = p.cols,
                        .shard_offset = p.shard_offset,
                        .is_first_holder = layout.is_first_holder(p)});
    }
  }
  return slices;
}

}  // namespace koios
