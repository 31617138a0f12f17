#include "pipeline/schedule.hpp"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <utility>

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

/// Qi et al. 2023, section 6 (ZB-V). The first backward pass waits for its micro-batch's way to the
/// last stage and back; from then on a stage has work for all of its time, and the weights'
/// gradients come late only at the end, where nothing else is left.
std::vector<Pass> zero_bubble_v(const StagePlace& place, int micro_batches) {
  KOIOS_REQUIRE(place.runs == 2, place.runs, " runs");
  using Turn = std::pair<Kind, int>;  // and the run; each takes the micro-batches in order
  constexpr Turn F0{Kind::forward, 0}, B0{Kind::backward_input, 0}, W0{Kind::backward_weight, 0};
  constexpr Turn F1{Kind::forward, 1}, B1{Kind::backward_input, 1}, W1{Kind::backward_weight, 1};
  std::vector<Pass> schedule;
  std::map<Turn, int> next;
  const auto take = [&](int times, std::initializer_list<Turn> turns) {
    for (int time = 0; time < times; ++time) {
      for (const Turn& turn : turns) {
        const int micro = next[turn]++;
        if (micro < micro_batches) schedule.push_back({turn.first, micro, turn.second});
      }
    }
  };
  const int before = place.stage;
  const int after = place.stages - 1 - place.stage;
  // Of fewer micro-batches than fill the stages, those that lack are left out.
  const int all = std::max(micro_batches, 2 * place.stages - 1);
  take(2 * after + 1, {F0});
  take(before, {F1, F0});
  take(after + 1, {F1, B1, W1});
  take(all - (2 * after + 1 + before), {F0, B0, W0, F1, B1, W1});
  take(after, {B0, W0, F1, B1, W1});
  take(before, {B0, B1});
  take(after + 1, {B0, W0});
  take(before, {W1});
  take(before, {W0});
  return schedule;
}

}  // namespace

std::vector<int> stage_path(ScheduleKind kind, int stages, int runs) {
  std::vector<int> path;
  for (int part = 0; part < stages * runs; ++part) {
    const int stage = part % stages;
    const bool is_way_back = kind == ScheduleKind::zero_bubble_v && part >= stages;
    path.push_back(is_way_back ? stages - 1 - stage : stage);
  }
  return path;
}

std::vector<Pass> make_schedule(ScheduleKind kind, const StagePlace& place, int micro_batches) {
  switch (kind) {
    case ScheduleKind::one_f_one_b:
      return by_turns(place.stages - 1 - place.stage, micro_batches);
    case ScheduleKind::interleaved:
      return interleaved(place, micro_batches);
    case ScheduleKind::zero_bubble:
      return zero_bubble(place, micro_batches);
    case ScheduleKind::zero_bubble_v:
      return zero_bubble_v(place, micro_batches);
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
// runs the first passes are as many times shorter. zero_bubble_v, in sixths of a micro-batch: with
// enough micro-batches a stage waits for stages - 1, as the last one does for its first work. A
// single micro-batch keeps the first stage waiting for 4 (stages - 1), on its way to the last stage
// and back, forward and backward; each further one is work for 2 of these.
double bubble(ScheduleKind kind, int stages, int runs, int micro_batches) {
  double fill = static_cast<double>(stages - 1) / runs;
  if (kind == ScheduleKind::zero_bubble) fill = (fill + std::max(0, stages - micro_batches)) / 3;
  if (kind == ScheduleKind::zero_bubble_v) {
    fill = std::max(stages - 1, 4 * (stages - 1) - 2 * (micro_batches - 1)) / 6.0;
  }
  return fill / (micro_batches + fill);
}

}  // namespace koios
