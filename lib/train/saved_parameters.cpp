#include "train/saved_parameters.hpp"

namespace koios {

std::vector<SavedArray> saved_parameters(const ShardLayout& layout, const std::string& prefix,
                                         DType type, const AnyRef& values) {
  std::vector<SavedArray> arrays;
  for (const UnitLayout& unit : layout.units()) {
    for (const ParameterLayout& p : unit.parameters) {
      arrays.push_back({.name = prefix + p.spec.name,
                        .type = type,
                        .is_vector = p.spec.is_vector,
                        .rows = p.spec.rows,
                        .cols = p.spec.cols,
                        .here = p.here,
                        .is_owner = layout.is_first_holder(p),
                        .values = slice(values, {p.in_shard.first, p.here.size()})});
    }
  }
  return arrays;
}

}  // namespace koios
