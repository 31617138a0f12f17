// How many of a model's blocks each part of a pipeline gets, so that all stages cost the same.
#pragma once

#include <cstdint>
#include <vector>

namespace koios {

/// Floating-point operations of one micro-batch's token, or any other measure of cost.
struct UnitCosts {
  double embedding = 0;
  double block = 0;
  double head = 0;
};

/// Blocks of each part, at least one. path: the stage of each part (stage_path). The dearest stage
/// is as cheap as it can be, and of its parts the dearest one. The embedding is with the first
/// part, the head with the last; of those that could have one block more, later ones do, because
/// fewer micro-batches wait there.
std::vector<std::int64_t> divide_blocks(std::int64_t blocks, const std::vector<int>& path,
                                        const UnitCosts& costs);

/// What each stage costs; blocks: of each part.
std::vector<double> stage_costs(const std::vector<std::int64_t>& blocks,
                                const std::vector<int>& path, const UnitCosts& costs);

}  // namespace koios
