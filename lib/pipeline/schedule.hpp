// The order in which a stage takes micro-batches through its units: a pure function of the stage's
// place. What it means for single units, their weights and gradients, and for what travels between
// stages, is expanded by pipeline/actions.hpp.
#pragma once

#include <string>
#include <vector>

#include "core/choices.hpp"

namespace koios {

/// One micro-batch through the units of a stage, or through one run of them, in one direction.
struct Pass {
  enum class Kind {
    forward,
    backward,
    backward_input,   // the part of it that the stage before waits for
    backward_weight,  // the rest: gradients of the blocks' matrices
    evaluate          // forward for the loss alone: nothing comes back
  };
  Kind kind = Kind::forward;
  int micro_batch = 0;
  int run = 0;

  bool operator==(const Pass&) const = default;
};

/// A stage of a pipeline, from 0; the micro-batches of a step pass through all of them, with
/// several runs several times.
struct StagePlace {
  int stages = 1;
  int stage = 0;
  int runs = 1;
};

/// The stages that a micro-batch visits, one after the other: with several runs the model is cut
/// into stages * runs parts, one for each visit. A run of a stage is one of its visits.
std::vector<int> stage_path(ScheduleKind kind, int stages, int runs);

/// The passes of one training step. With one stage: each micro-batch forward, then backward.
/// interleaved: micro_batches is a multiple of the stages. zero_bubble_v: two runs.
std::vector<Pass> make_schedule(ScheduleKind kind, const StagePlace& place, int micro_batches);

/// One micro-batch for its loss.
std::vector<Pass> evaluation(int runs);

/// Two micro-batches through all runs, one after the other, in the kinds of passes of the schedule.
std::vector<Pass> rehearsal(ScheduleKind kind, int runs);

/// The most micro-batches that wait for some of their backward pass through the run at once.
int micro_batches_in_flight(const std::vector<Pass>& schedule, int run);

/// The part of a step in which a stage waits for others, where all stages cost the same, forward,
/// backward_input and backward_weight, too, and nothing is spent on transport: docs/pipeline.md.
double bubble(ScheduleKind kind, int stages, int runs, int micro_batches);

}  // namespace koios
