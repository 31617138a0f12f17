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

/// 1F1B with the weights' gradients late by as many micro-batches as stages come before this one,
/// so that every stage has as many in flight as 1F1B's first has.
std::vector<Pass> zero_bubble(const StagePlace& place, int micro_batches) {
  std::vector<Pass> schedule;
  for (Pass pass : by_turns(place.stages - 1 - place.stage, micro_batches)) {
    const bool is_backward = pass.kind == Kind::backward;
    if (is_backward) pass.kind = Kind::backward_input;
    schedule.push_back(pass);
    const int late = pass.micro_batch - place.stage;
    if (is_backward && late >= 0) schedule.push_back({Kind::backward_weight, late});
  }
  for (int micro = std::max(0, micro_batches - place.stage); micro < micro_batches; ++micro) {
    schedule.push_back({Kind::backward_weight, micro});
  }
  return schedule;
}

/// All stages take the passes of a direction in the same order: as many micro-batches as there are
/// stages through one run, the same ones through the next.
Pass interleaved_pass(Kind kind, int number, const StagePlace& place) {
  const int in_turn = place.stages * place.runs;
  const int run = number % in_turn / place.stages;
  const int micro = number / in_turn * place.stages + number % place.stages;
  return {kind, micro, kind == Kind::forward ? run : place.runs - 1 - run};
}

std::vector<Pass> interleaved(const StagePlace& place, int micro_batches) {
  KOIOS_REQUIRE(micro_batches % place.stages == 0, micro_batches, " micro-batches for ",
                place.stages, " stages");
  // The first backward pass of the last stage's last run, and two for each stage on the way to it.
  const int ahead = 2 * (place.stages - 1 - place.stage) + (place.runs - 1) * place.stages;
  std::vector<Pass> schedule = by_turns(ahead, micro_batches * place.runs);
  for (Pass& pass : schedule) pass = interleaved_pass(pass.kind, pass.micro_batch, place);
  return schedule;
}

}  // namespace

bool splits_backward(ScheduleKind kind) { return kind == ScheduleKind::zero_bubble; }

std::vector<Pass> make_schedule(ScheduleKind kind, const StagePlace& place, int micro_batches) {
  switch (kind) {
    case ScheduleKind::one_f_one_b:
      return by_turns(place.stages - 1 - place.stage, micro_batches);
    case ScheduleKind::interleaved:
      return interleaved(place, micro_batches);
    case ScheduleKind::zero_bubble:
      return zero_bubble(place, micro_batches);
    case ScheduleKind::gpipe:
      return by_turns(place.stages == 1 ? 0 : micro_batches, micro_batches);
  }
  KOIOS_REQUIRE(false, "unknown schedule");
}

std::vector<Pass> evaluation(int runs) {
  std::vector<Pass> passes;
  for (int run = 0; run < runs; ++run) passes.push_back({Kind::evaluate, 0, run});
  return passes;
}

std::vector<Pass> rehearsal(ScheduleKind kind, int runs) {
  const bool is_split = splits_backward(kind);
  std::vector<Pass> passes;
  for (int micro = 0; micro < 2; ++micro) {
    for (int run = 0; run < runs; ++run) passes.push_back({Kind::forward, micro, run});
    for (int run = runs - 1; run >= 0; --run) {
      passes.push_back({is_split ? Kind::backward_input : Kind::backward, micro, run});
      if (is_split) passes.push_back({Kind::backward_weight, micro, run});
    }
  }
  return passes;
}

int micro_batches_in_flight(const std::vector<Pass>& schedule, int run) {
  int now = 0;
  int most = 1;
  for (const Pass& pass : schedule) {
    if (pass.run != run) continue;
    if (pass.kind == Kind::forward) most = std::max(most, ++now);
    if (pass.kind == Kind::backward || pass.kind == Kind::backward_weight) --now;
  }
  return most;
}

// A stage is at work for micro_batches passes each way; the first reaches the last stage, and its
// gradient the first stage, after stages - 1 more of each. Of these 3 (stages - 1) thirds of a
// micro-batch, zero_bubble has work for 2 (stages - 1) where there are enough micro-batches; with
// runs the first passes are as many times shorter.
double bubble(ScheduleKind kind, int stages, int runs, int micro_batches) {
  double fill = static_cast<double>(stages - 1) / runs;
  if (kind == ScheduleKind::zero_bubble) fill = (fill + std::max(0, stages - micro_batches)) / 3;
  return fill / (micro_batches + fill);
}

}  // namespace koios
