// A loss or gradient that is not finite: noticed on the device before the optimizer's update, where
// all ranks agree on it (the norm is theirs together), traced to a parameter and a rank, and told
// in one line.
//
//   NonfiniteSearch search(...);
//   each step: gradient_norm(...); search.look(stream, norm);     // a few empty launches
//   later, on the host, of a step whose norm was not finite:
//   policy.judge(step, result, search.take(stream));              // collective
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/run_config.hpp"
#include "kernels/nonfinite.hpp"
#include "runtime/arena.hpp"
#include "runtime/mpi_env.hpp"
#include "shard/layout.hpp"
#include "shard/parameters.hpp"
#include "shard/slots.hpp"
#include "train/step_results.hpp"

namespace koios {

struct NonfiniteBuffers {
  Ref<std::int32_t, 1> gate;
  Ref<std::int32_t, 1> count;
  Ref<std::int64_t, 2> stretches;
  Ref<std::int32_t, 1> count_of_result;  // NumericsCheck's

  NonfiniteBuffers(Arena& arena, const ShardLayout& layout);
};

/// A parameter of which some values, or some of its gradient's, are not finite.
struct NonfiniteParameter {
  int unit = 0;       // of the layout
  int parameter = 0;  // of the unit
  std::int64_t count = 0;
};

/// What one rank has found, of each kind the first one in the order of the backward pass, which
/// goes from the head to the embedding: what comes later has it from there.
struct NonfiniteFindings {
  std::optional<NonfiniteParameter> parameter;  // of the rank's masters, before the update
  std::optional<NonfiniteParameter> gradient;   // of its gradient shard, summed over ranks
  /// Of its own contribution to that sum, where it is still there: of the units whose buffers no
  /// other unit took over, which are those that the backward pass came to last.
  std::optional<NonfiniteParameter> own_gradient;
};

class NonfiniteSearch {
 public:
  /// full: where whole gradients lie on their way out; null: the shard is the whole gradient.
  /// reduced: the units in the order in which they leave in a step.
  NonfiniteSearch(const ShardLayout& layout, const NonfiniteBuffers& buffers,
                  Ref<const float, 1> masters, Ref<const float, 1> gradient_shard,
                  const UnitSlots<float>* full, const std::vector<int>& reduced, Stream& compute);

  /// Where the step's norm is not finite, looks for the values to blame; the first time since the
  /// last take(). All gradients are reduced, the update is still to come.
  void look(Stream& compute, Ref<const float, 1> norm);
  /// What look() found in the first such step, and starts anew. Waits for the device.
  NonfiniteFindings take(Stream& compute);

 private:
  enum class Kind { master, gradient, own_gradient };
  struct Place {
    Kind kind;
    int unit;
    int parameter;
  };
  void add(Kind kind, int unit, const float* data, bool is_full);

  const ShardLayout& layout_;
  NonfiniteBuffers buffers_;
  std::vector<Place> places_;  // of each stretch
  std::vector<std::int64_t> stretches_;
};

/// What the deck wants done.
class NonfinitePolicy {
 public:
  NonfinitePolicy(const TrainingConfig& config, const MpiEnv& mpi, const ShardLayout& layout)
      : config_(config), mpi_(mpi), layout_(layout) {}

  /// Of every step, in order; found: where somebody looked. Throws UserError where the run is to
  /// end, else warns. Collective where the step is not finite.
  void judge(std::int64_t step, const StepResult& result,
             const std::optional<NonfiniteFindings>& found);

 private:
  TrainingConfig config_;
  const MpiEnv& mpi_;
  const ShardLayout& layout_;
  std::int64_t in_a_row_ = 0;
};

}  // namespace koios
