#include "shard/layout.hpp"

#include <algorithm>
#include <numeric>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {

std::int64_t UnitLayout::gathered_elements(int ranks) const {
  std::int64_t elements = 0;
  for (const ParameterLayout& p : parameters) elements += p.part_size() * ranks;
  return elements;
}

ShardLayout::ShardLayout(const std::vector<UnitSpec>& units, const ShardPlace& place)
    : place_(place) {
  const auto& [ranks, rank, tensor, replica, stage, runs] = place_;
  KOIOS_REQUIRE(ranks >= 1 && rank >= 0 && rank < ranks, "rank ", rank, " of ", ranks);
  if (place_.runs.empty()) {
    place_.runs.emplace_back(units.size());
    std::iota(place_.runs.front().begin(), place_.runs.front().end(), 0);
  }
  std::int64_t layers = 0;
  for (const UnitSpec& unit_spec : units) {
    UnitLayout unit;
    const auto number = static_cast<int>(units_.size());
    unit.name = unit_spec.name;
    unit.role = unit_spec.role;
    if (unit.role == UnitRole::block) unit.layer = layers++;
    unit.is_held = std::ranges::any_of(runs, [number](const std::vector<int>& run) {
      return std::ranges::find(run, number) != run.end();
    });
    unit.in_shard.first = shard_size_;
    for (const ParameterSpec& spec : unit_spec.parameters) {
      ParameterLayout p;
      p.spec = spec;
      p.rows = spec.split == Split::rows ? div_exact(spec.rows, tensor.ranks) : spec.rows;
      p.cols = spec.split == Split::columns ? div_exact(spec.cols, tensor.ranks) : spec.cols;
      p.part_rows = ceil_div(p.rows, ranks);
      p.here.rows = intersect({p.part_rows * rank, p.part_rows}, {0, p.rows});
      if (spec.split == Split::rows) p.here.rows.first += p.rows * tensor.rank;
      p.here.cols = {spec.split == Split::columns ? p.cols * tensor.rank : 0, p.cols};
      p.in_shard = {unit.in_shard.end(), p.part_size()};
      p.full_offset = unit.full_size;
      if (unit.is_held) {
        unit.in_shard.count += round_up(p.part_size(), kAlignment);
      } else {
        p.here.rows.count = p.in_shard.count = 0;
      }
      unit.full_size += round_up(p.part_size() * ranks, kAlignment);
      parameter_count_ += spec.size();
      unit.parameters.push_back(std::move(p));
    }
    shard_size_ = unit.in_shard.end();
    units_.push_back(std::move(unit));
  }
}

std::vector<int> ShardLayout::held(UnitRole role) const {
  std::vector<int> units;
  for (std::size_t i = 0; i < units_.size(); ++i) {
    if (units_[i].is_held && units_[i].role == role) units.push_back(static_cast<int>(i));
  }
  return units;
}

int ShardLayout::run_of(int unit) const {
  const auto ends = std::ranges::find_if(
      runs(), [unit](const std::vector<int>& run) { return unit <= run.back(); });
  KOIOS_REQUIRE(ends != runs().end() && unit >= ends->front(), "no run has unit ", unit);
  return static_cast<int>(ends - runs().begin());
}

bool ShardLayout::takes_input(int unit) const {
  return unit > 0 && runs()[static_cast<std::size_t>(run_of(unit))].front() == unit;
}

bool ShardLayout::is_first_holder(const ParameterLayout& parameter) const {
  const bool is_first_of_tensor_ranks =
      place_.tensor.rank == 0 || parameter.spec.split != Split::none;
  return place_.replica == 0 && is_first_of_tensor_ranks;
}

std::vector<Range> ShardLayout::counted() const {
  std::vector<Range> ranges;
  if (place_.replica > 0) return ranges;
  const auto add = [&](std::int64_t first, std::int64_t end) {
    if (end > first) ranges.push_back({first, end - first});
  };
  std::int64_t begin = 0;
  for (const UnitLayout& unit : units_) {
    if (!unit.is_held) continue;
    for (const ParameterLayout& p : unit.parameters) {
      if (is_first_holder(p)) continue;
      add(begin, p.in_shard.first);
      begin = p.in_shard.first + round_up(p.part_size(), kAlignment);
    }
  }
  add(begin, shard_size_);
  return ranges;
}

}  // namespace koios
