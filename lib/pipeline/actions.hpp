// A training step as a list of actions, made once from the schedule by a pure function and executed
// by train/step.cpp. When weights are gathered, how far ahead, what is computed again and when
// gradients leave follow from the order of the list alone, so the traffic plan counts actions and
// tests read them as text.
#pragma once

#include <string>
#include <vector>

#include "model/activations.hpp"
#include "pipeline/schedule.hpp"
#include "shard/layout.hpp"
#include "shard/unit_view.hpp"

namespace koios {

struct Action {
  enum class Kind {
    load,              // the micro-batch's tokens
    reload,            // the same, for a later run
    gather,            // a unit's weights, into its buffer
    receive,           // the residual stream into a run's first unit, from the stage before
    send,              // the residual stream out of a run's last unit, to the next stage
    hand_over,         // the same, to the stage's own next run
    receive_gradient,  // of what was sent
    send_gradient,     // of what was received
    hand_back,         // of what was handed over
    forward,           // a unit; the head's leaves the losses and the gradient of its input
    evaluate,          // the head, for the losses alone
    recompute,         // what a block does not keep
    backward,          // a unit
    backward_input,    // a block, but for the gradients of its matrices
    backward_weight,   // these
    reduce,            // a unit's gradients over the ranks that share it
    all_reduce,        // this rank's part of them over the replicas
    update             // all gradients are there: norm, clipping, optimizer
  };
  Kind kind = Kind::load;
  int unit = -1;
  int micro_batch = 0;
  bool accumulate = false;  // adds to the gradients that are there
  int slot = 0;             // of the micro-batch on its run of units
  /// Of the stage's inputs or outputs; reload: the slot it was loaded for; hand_back: the slot on
  /// the run that handed it over.
  int buffer = 0;
  unsigned values = kAllValues;  // WeightValues, to be gathered
  /// A gather that begins when what tensor- and context-parallel ranks exchange by then is through.
  bool awaits_exchange = false;

  bool operator==(const Action&) const = default;
};

/// A unit of this stage, in the order of the forward pass.
struct StageUnit {
  int unit = 0;
  int run = 0;
  UnitRole role = UnitRole::block;
  int weight_buffer = -1;      // which gather buffer it uses; -1: the masters serve as weights
  bool is_recomputed = false;  // keeps less than its backward pass wants; the rest is in scratch
  /// WeightValues, where the two passes have their own: of the pass back, what is computed again
  /// among it.
  unsigned forward_values = kAllValues;
  unsigned backward_values = kAllValues;
};

struct ActionOptions {
  std::vector<RunShape> runs;     // of the StageShape
  int prefetch = 1;               // units gathered ahead of the one being computed
  bool is_behind = false;         // after it was enqueued, not before; they await its exchange
  bool is_sharded = true;         // gradients are reduced over ranks
  bool is_replicated = false;     // and then over copies of the model
  bool every_micro_batch = true;  // after each micro-batch, else after the last one
};

/// The actions of a schedule. A unit is gathered when the one `prefetch` computations before it
/// begins (is_behind: when it has exchanged all that it does), or as soon as its buffer's last user
/// has run; never again while its buffer still holds it, but for values that were not wanted
/// before. A block's gradients leave when its backward pass has been enqueued, and are added up
/// over replicas once, when the last micro-batch's have left. What a pass receives is asked for
/// when the pass before it begins, and travels beside it.
std::vector<Action> make_actions(const std::vector<Pass>& schedule,
                                 const std::vector<StageUnit>& units, const ActionOptions& options);

/// "forward layers.3", "update".
std::string describe(const Action& action, const ShardLayout& layout);

}  // namespace koios
