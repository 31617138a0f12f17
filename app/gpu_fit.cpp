#include "app/gpu_fit.hpp"

#include <algorithm>
#include <numeric>

#include "config/values.hpp"
#include "core/error.hpp"
#include "core/readable.hpp"

namespace koios {
namespace {

constexpr double kGiB = 1 << 30;
/// CUDA's context, NCCL, cuBLAS and cuDNN were measured at 1.7 GiB beside the plan.
constexpr std::int64_t kBesidePlan = std::int64_t{2} << 30;
constexpr int kMostTimesRanks = 64;

/// Overrides and ranks that change one thing.
struct Change {
  std::vector<std::string> overrides;
  int ranks = 0;
};

Change operator+(Change a, const Change& b) {
  for (const std::string& override : b.overrides) {
    if (std::ranges::find(a.overrides, override) == a.overrides.end()) {
      a.overrides.push_back(override);
    }
  }
  a.ranks = std::max(a.ranks, b.ranks);
  return a;
}

/// What may be changed, each kind from the mildest on, without what is so already.
struct Changes {
  std::vector<Change> recompute, batch, tensor_parallel, moments, more_ranks;
};

int weight(const ActivationCheckpointConfig& c) {
  if (c.mode == RecomputeMode::none) return 0;
  if (c.mode == RecomputeMode::full) return 4;
  switch (c.selective_ac_option.kind) {
    case SelectiveOption::Kind::op:
      return 1;
    case SelectiveOption::Kind::op_half:
      return 2;
    case SelectiveOption::Kind::blocks:
      return 3;
  }
  return 0;
}

Changes changes_of(const RunConfig& config, int ranks) {
  Changes changes;
  const int now = weight(config.activation_checkpoint);
  for (const auto& [level, option] : {std::pair(1, "op"), {2, "op_half"}}) {
    if (level <= now) continue;
    changes.recompute.push_back({{"activation_checkpoint/mode=selective",
                                  cat("activation_checkpoint/selective_ac_option=", option)},
                                 ranks});
  }
  if (now < 4) changes.recompute.push_back({{"activation_checkpoint/mode=full"}, ranks});
  const TrainingConfig& t = config.training;
  for (std::int64_t parts = 2; t.batch_size % parts == 0; parts *= 2) {
    changes.batch.push_back(
        {{cat("training/batch_size=", t.batch_size / parts),
          cat("training/gradient_accumulation_steps=", t.gradient_accumulation_steps * parts)},
         ranks});
  }
  std::vector<std::string> what_is_left;  // of the ranks, whatever the deck says
  if (config.parallel.data_parallel != -1) what_is_left = {"training/data_parallel_degree=-1"};
  for (int degree = 2; degree <= 8; degree *= 2) {
    if (degree <= config.parallel.tensor_parallel || ranks % degree != 0) continue;
    const Change tp{{cat("training/tensor_parallel_degree=", degree)}, ranks};
    changes.tensor_parallel.push_back(tp + Change{what_is_left, ranks});
  }
  if (config.optimizer.state_dtype == DType::float32) {
    changes.moments.push_back({{"optimizer/state_dtype=bfloat16"}, ranks});
  }
  const int most_times = std::min(kMostTimesRanks, kMostPlannedRanks / ranks);
  for (int times = 2; times <= most_times; times *= 2) {
    changes.more_ranks.push_back({what_is_left, ranks * times});
  }
  return changes;
}

class Search {
 public:
  Search(std::int64_t most, int ranks, const PlanWith& plan_with)
      : most_(most), ranks_(ranks), plan_with_(plan_with) {}

  /// The change in words with what is then planned; none where it does not fit.
  std::optional<std::string> try_change(const Change& change) const {
    const auto bytes = plan_with_(change.overrides, change.ranks);
    if (!bytes || *bytes > most_) return std::nullopt;
    std::string text;
    for (const std::string& override : change.overrides) text += cat(override, " ");
    if (change.ranks != ranks_) text += cat("--ranks ", change.ranks, " ");
    return cat("  ", text, "(plan ", gib(*bytes), ")");
  }

  std::optional<std::string> first_of(const std::vector<Change>& changes) const {
    for (const Change& change : changes) {
      if (auto text = try_change(change)) return text;
    }
    return std::nullopt;
  }

 private:
  std::int64_t most_;
  int ranks_;
  const PlanWith& plan_with_;
};

/// In steps of 128 tokens of a chunk, whose number tensor-parallel ranks divide, beside this deck's
/// own length.
std::int64_t longest_sequence(std::int64_t most, const RunConfig& config, int ranks,
                              const PlanWith& plan_with) {
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 20;  // of the key
  const ParallelConfig& p = config.parallel;
  const std::int64_t step =
      std::int64_t{p.context_parallel} * std::lcm(128 * 2, std::int64_t{p.tensor_parallel});
  std::int64_t longest = config.training.seq_len;
  std::int64_t fits = longest / step;
  for (std::int64_t beyond = kMostTokens / step + 1; beyond - fits > 1;) {
    const std::int64_t middle = (fits + beyond) / 2;
    const auto bytes = plan_with({cat("training/seq_len=", middle * step)}, ranks);
    if (bytes && *bytes <= most) {
      fits = middle;
      longest = middle * step;
    } else {
      beyond = middle;
    }
  }
  return longest;
}

/// Two and more kinds of changes together: the fewest ranks, and of these the mildest.
std::optional<std::string> first_together(const Search& search, const Changes& changes, int ranks) {
  const auto or_none = [&](std::vector<Change> list) {
    list.insert(list.begin(), Change{{}, ranks});
    return list;
  };
  for (const Change& more : or_none(changes.more_ranks)) {
    for (const Change& moments : or_none(changes.moments)) {
      for (const Change& tp : or_none(changes.tensor_parallel)) {
        for (const Change& recompute : or_none(changes.recompute)) {
          for (const Change& batch : or_none(changes.batch)) {
            if (auto text = search.try_change(more + moments + tp + recompute + batch)) return text;
          }
        }
      }
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<GpuMemory> gpu_memory(const std::string& name) {
  for (const auto& [known, size] :
       {std::pair("h100", 79.1), {"h200", 139.7}, {"a100", 79.1}}) {  // as cudaMemGetInfo says
    if (name == known) return GpuMemory{name, static_cast<std::int64_t>(size * kGiB)};
  }
  double size = 0;
  if (!parse_value(name, size).empty() || size <= 0 || size > 1e6) return std::nullopt;
  return GpuMemory{cat(show_value(size), " GiB"), static_cast<std::int64_t>(size * kGiB)};
}

std::int64_t most_planned_bytes(const GpuMemory& gpu) { return gpu.bytes - kBesidePlan; }

FitReport report_fit(const GpuMemory& gpu, const RunConfig& config, int ranks,
                     const PlanWith& plan_with) {
  const std::int64_t planned = plan_with({}, ranks).value_or(0);
  FitReport report;
  report.fits = planned <= most_planned_bytes(gpu);
  report.lines.push_back(cat(report.fits ? "fits " : "does not fit ", gpu.name, ": plan ",
                             gib(planned), " and ", gib(kBesidePlan),
                             " for CUDA, NCCL and the like, of ", gib(gpu.bytes)));
  if (report.fits) {
    const std::int64_t longest =
        longest_sequence(most_planned_bytes(gpu), config, ranks, plan_with);
    report.lines.push_back(cat("longest training/seq_len that fits, by the plan: ", longest));
    return report;
  }
  const Search search(most_planned_bytes(gpu), ranks, plan_with);
  const Changes changes = changes_of(config, ranks);
  std::vector<std::string> found;
  for (const auto* kind : {&changes.recompute, &changes.batch, &changes.tensor_parallel,
                           &changes.moments, &changes.more_ranks}) {
    if (auto text = search.first_of(*kind)) found.push_back(*text);
  }
  if (found.empty()) {
    if (auto text = first_together(search, changes, ranks)) found.push_back(*text);
  }
  if (found.empty()) {
    report.lines.push_back(
        cat("no recomputation, smaller batch, tensor parallelism, smaller moments or ranks up to ",
            changes.more_ranks.empty() ? ranks : changes.more_ranks.back().ranks,
            " make it fit; lower training/seq_len or the model"));
  } else {
    report.lines.push_back("what would make it fit, by the plan; each line alone:");
    report.lines.insert(report.lines.end(), found.begin(), found.end());
  }
  return report;
}

}  // namespace koios
