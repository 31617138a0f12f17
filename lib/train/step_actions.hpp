// The actions of a run's steps: the schedule, the units of this rank's stage and their buffers, out
// of the training's shape.
#pragma once

#include <vector>

#include "pipeline/actions.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// Of one training step. layout: shard_layout(shape, rank).
std::vector<Action> training_actions(const TrainingShape& shape, const ShardLayout& layout);

/// Of measuring the loss of one batch.
std::vector<Action> evaluation_actions(const TrainingShape& shape, const ShardLayout& layout);

/// Two micro-batches, of which the second adds to the gradients of the first, through this stage
/// alone; nothing with one stage.
std::vector<Action> rehearsal_actions(const TrainingShape& shape, const ShardLayout& layout);

}  // namespace koios
