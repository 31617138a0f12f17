// All of a run that is not parameters or moments: what a checkpoint's head says, and what a resumed
// run starts with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/head.hpp"
#include "data/sample_sequence.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// One logged row: mean and maximum loss of the steps since the row before.
struct LossRow {
  std::int64_t step = 0;
  double mean = 0;
  double max = 0;
};

struct RunState {
  std::int64_t step = 0;    // optimizer steps done
  std::int64_t tokens = 0;  // label tokens trained on
  std::vector<LossRow> losses;
  SequenceState data;  // where the next step's samples start
};

/// What to say where the first loss after a restart lies above those before it by more than they
/// vary; empty where it does not, or where there are too few to tell.
std::string describe_jump(const std::vector<LossRow>& before, const LossRow& first);

CheckpointHead make_head(const RunState& state, const TrainingShape& shape,
                         const std::string& effective_deck);
/// The head of an export: what the weights are, without the run.
CheckpointHead make_weights_head(std::int64_t step, const TrainingShape& shape,
                                 const std::string& effective_deck);
/// UserError where a file was renamed to another step.
void require_step(std::int64_t step_in_name, std::int64_t step);

/// "checkpoint" or "weights"; UserError where it is not a file that this Koios knows.
std::string kind_of(const CheckpointHead& head);

/// UserError where the head is not that of a checkpoint that can be resumed.
RunState read_state(const CheckpointHead& head);

/// Compares the checkpoint's deck with the one in force: says what differs, and throws UserError
/// where the run could not be the same one (sizes of the model, order of data, optimizer).
void compare_with_deck(const CheckpointHead& head, const TrainingShape& shape,
                       const std::string& effective_deck, const std::string& file);

}  // namespace koios
