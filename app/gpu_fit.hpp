// Whether a run fits a kind of GPU, and which change of the deck or of the ranks would make it fit:
// each is planned, none is guessed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/run_config.hpp"

namespace koios {

/// Ranks are doubled and multiplied with; no degree of a deck is larger.
inline constexpr int kMostPlannedRanks = 1 << 20;

struct GpuMemory {
  std::string name;        // "h100", or "40 GiB"
  std::int64_t bytes = 0;  // all that a program sees of it
};

/// h100, h200, a100 (the one of 80 GB), or a number of GiB; none where it is neither.
std::optional<GpuMemory> gpu_memory(const std::string& name);

/// What a plan may take of it: the rest is CUDA's, NCCL's and the like.
std::int64_t most_planned_bytes(const GpuMemory& gpu);

/// The planned bytes of a rank with `overrides` behind those of the command line; none where the
/// rules of a deck forbid it.
using PlanWith = std::function<std::optional<std::int64_t>(
    const std::vector<std::string>& overrides, int ranks)>;

struct FitReport {
  bool fits = false;
  std::vector<std::string> lines;
};

FitReport report_fit(const GpuMemory& gpu, const RunConfig& config, int ranks,
                     const PlanWith& plan_with);

}  // namespace koios
