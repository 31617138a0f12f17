#include "pipeline/partition.hpp"

#include <algorithm>
#include <utility>

#include "core/error.hpp"

namespace koios {

namespace {

std::vector<double> part_costs(const std::vector<std::int64_t>& blocks, const UnitCosts& costs) {
  std::vector<double> each;
  for (const std::int64_t n : blocks) each.push_back(static_cast<double>(n) * costs.block);
  each.front() += costs.embedding;
  each.back() += costs.head;
  return each;
}

std::vector<double> sum_by_stage(const std::vector<double>& of_parts,
                                 const std::vector<int>& path) {
  std::vector<double> each(static_cast<std::size_t>(std::ranges::max(path) + 1), 0.0);
  for (std::size_t part = 0; part < path.size(); ++part) {
    each[static_cast<std::size_t>(path[part])] += of_parts[part];
  }
  return each;
}

}  // namespace

std::vector<double> stage_costs(const std::vector<std::int64_t>& blocks,
                                const std::vector<int>& path, const UnitCosts& costs) {
  return sum_by_stage(part_costs(blocks, costs), path);
}

// Blocks are alike, so giving each in turn to the stage that is cheapest with it is optimal.
std::vector<std::int64_t> divide_blocks(std::int64_t blocks, const std::vector<int>& path,
                                        const UnitCosts& costs) {
  KOIOS_REQUIRE(!path.empty() && blocks >= std::ssize(path), blocks, " blocks for ", path.size(),
                " parts");
  std::vector<std::int64_t> each(path.size(), 1);
  for (std::int64_t given = std::ssize(path); given < blocks; ++given) {
    const std::vector<double> of_parts = part_costs(each, costs);
    const std::vector<double> of_stages = sum_by_stage(of_parts, path);
    const auto cost = [&](std::size_t part) {
      return std::pair(of_stages[static_cast<std::size_t>(path[part])], of_parts[part]);
    };
    std::size_t cheapest = 0;
    for (std::size_t part = 1; part < path.size(); ++part) {
      if (cost(part) <= cost(cheapest)) cheapest = part;
    }
    ++each[cheapest];
  }
  return each;
}

}  // namespace koios
