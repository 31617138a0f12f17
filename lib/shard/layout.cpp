#include "shard/layout.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {

std::int64_t UnitLayout::gathered_elements(int ranks) const {
  std::int64_t elements = 0;
  for (const ParameterLayout& p : parameters) elements += p.part_size() * ranks;
  return elements;
}

ShardLayout::ShardLayout(const std::vector<UnitSpec>& units, int ranks, int rank)
    : ranks_(ranks), rank_(rank) {
  KOIOS_REQUIRE(ranks >= 1 && rank >= 0 && rank < ranks, "rank ", rank, " of ", ranks);
  for (const UnitSpec& unit_spec : units) {
    UnitLayout unit;
    unit.name = unit_spec.name;
    unit.shard_offset = shard_size_;
    for (const ParameterSpec& spec : unit_spec.parameters) {
      ParameterLayout p;
      p.spec = spec;
      p.part_rows = ceil_div(spec.rows, ranks);
      p.first_row = std::min(spec.rows, p.part_rows * rank);
      p.rows_here = std::min(spec.rows, p.part_rows * (rank + 1)) - p.first_row;
      p.shard_offset = unit.shard_offset + unit.shard_size;
      p.full_offset = unit.full_size;
      unit.shard_size += round_up(p.part_size(), kAlignment);
      unit.full_size += round_up(p.part_size() * ranks, kAlignment);
      parameter_count_ += spec.size();
      unit.parameters.push_back(std::move(p));
    }
    shard_size_ += unit.shard_size;
    units_.push_back(std::move(unit));
  }
}

}  // namespace koios
