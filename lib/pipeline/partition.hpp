// How many of a model's blocks each stage of a pipeline gets, so that all stages cost the same.
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

/// Blocks of each stage, at least one: the dearest stage is as cheap as it can be. The embedding is
/// with the first stage, the head with the last; of stages that could have one block more, later
/// ones do, because fewer micro-batches wait there.
std::vector<std::int64_t> divide_blocks(std::int64_t blocks, int stages, const UnitCosts& costs);

/// What each stage costs.
std::vector<double> stage_costs(const std::vector<std::int64_t>& blocks, const UnitCosts& costs);

}  // namespace koios
