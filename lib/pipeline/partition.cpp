#include "pipeline/partition.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace koios {

std::vector<double> stage_costs(const std::vector<std::int64_t>& blocks, const UnitCosts& costs) {
  std::vector<double> each;
  for (const std::int64_t n : blocks) each.push_back(static_cast<double>(n) * costs.block);
  each.front() += costs.embedding;
  each.back() += costs.head;
  return each;
}

// Blocks are alike, so giving each in turn to the stage that is cheapest with it is optimal.
std::vector<std::int64_t> divide_blocks(std::int64_t blocks, int stages, const UnitCosts& costs) {
  KOIOS_REQUIRE(stages >= 1 && blocks >= stages, blocks, " blocks for ", stages, " stages");
  std::vector<std::int64_t> each(static_cast<std::size_t>(stages), 1);
  for (std::int64_t given = stages; given < blocks; ++given) {
    const std::vector<double> cost = stage_costs(each, costs);
    std::size_t cheapest = 0;
    for (std::size_t stage = 1; stage < cost.size(); ++stage) {
      if (cost[stage] <= cost[cheapest]) cheapest = stage;
    }
    ++each[cheapest];
  }
  return each;
}

}  // namespace koios
