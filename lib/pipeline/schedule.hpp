// The order in which a stage takes micro-batches through its units: a pure function. What it means
// for single units, their weights and gradients is expanded by pipeline/actions.hpp.
#pragma once

#include <vector>

namespace koios {

/// One micro-batch through all units of a stage, in one direction.
struct Pass {
  enum class Kind {
    forward,
    backward,
    evaluate  // forward for the loss alone: nothing comes back
  };
  Kind kind = Kind::forward;
  int micro_batch = 0;

  bool operator==(const Pass&) const = default;
};

/// Each micro-batch forward, then backward: one at a time.
std::vector<Pass> one_after_another(int micro_batches);

/// One micro-batch for its loss.
std::vector<Pass> evaluation();

/// The most micro-batches that wait for their backward pass at once.
int micro_batches_in_flight(const std::vector<Pass>& schedule);

}  // namespace koios
