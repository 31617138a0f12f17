#include "train/saved_parameters.hpp"

#include "shard/parameter_slices.hpp"

namespace koios {

std::vector<SavedArray> saved_parameters(const ShardLayout& layout, const std::string& prefix,
                                         FileType type, Ref<float, 1> values) {
  std::vector<SavedArray> arrays;
  for (const ParameterSlice& s : parameter_slices(layout)) {
    arrays.push_back({.name = prefix + s.name,
                      .type = type,
                      .is_vector = s.is_vector,
                      .rows = s.rows,
                      .cols = s.cols,
                      .first_row = s.first_row,
                      .first_col = s.first_col,
                      .local_rows = s.local_rows,
                      .local_cols = s.local_cols,
                      .is_owner = s.is_first_holder,
                      .data = values.data + s.shard_offset});
  }
  return arrays;
}

}  // namespace koios
