#include "pipeline/schedule.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace koios {
namespace {

using Kind = Pass::Kind;

/// Forward passes go ahead of backward passes by `ahead` micro-batches.
std::vector<Pass> by_turns(int ahead, int micro_batches) {
  std::vector<Pass> schedule;
  const int first = std::min(ahead, micro_batches);
  for (int micro = 0; micro < first; ++micro) schedule.push_back({Kind::forward, micro});
  for (int micro = first; micro < micro_batches; ++micro) {
    schedule.push_back({Kind::forward, micro});
    schedule.push_back({Kind::backward, micro - first});
  }
  for (int micro = micro_batches - first; micro < micro_batches; ++micro) {
    schedule.push_back({Kind::backward, micro});
  }
  return schedule;
}

}  // namespace

const char* to_string(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::one_f_one_b:
      return "1f1b";
    case ScheduleKind::gpipe:
      return "gpipe";
  }
  KOIOS_REQUIRE(false, "unknown schedule");
}

std::vector<Pass> make_schedule(ScheduleKind kind, const StagePlace& place, int micro_batches) {
  switch (kind) {
    case ScheduleKind::one_f_one_b:
      return by_turns(place.stages - 1 - place.stage, micro_batches);
    case ScheduleKind::gpipe:
      return by_turns(place.stages == 1 ? 0 : micro_batches, micro_batches);
  }
  KOIOS_REQUIRE(false, "unknown schedule");
}

std::vector<Pass> evaluation() { return {{Kind::evaluate, 0}}; }

int micro_batches_in_flight(const std::vector<Pass>& schedule) {
  int now = 0;
  int most = 1;
  for (const Pass& pass : schedule) {
    if (pass.kind == Kind::forward) most = std::max(most, ++now);
    if (pass.kind == Kind::backward) --now;
  }
  return most;
}

// A stage is at work for micro_batches passes each way; the first reaches the last stage, and its
// gradient the first stage, after stages - 1 more of each.
double bubble(ScheduleKind /*kind*/, int stages, int micro_batches) {
  const double fill = stages - 1;
  return fill / (micro_batches + fill);
}

}  // namespace koios
