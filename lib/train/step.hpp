// One training step: a list of actions, done one after the other.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/mesh.hpp"
#include "data/batch.hpp"
#include "model/stage.hpp"
#include "optim/lr_schedule.hpp"
#include "optim/optimizer.hpp"
#include "pipeline/actions.hpp"
#include "pipeline/stage_links.hpp"
#include "train/batch_upload.hpp"
#include "train/nonfinite.hpp"
#include "train/step_results.hpp"
#include "train/training_memory.hpp"

namespace koios {

/// The streams of a rank: computation, one for each direction of the sharding axis, one for sums
/// over replicas, and one for what blocks exchange beside their computation.
struct TrainingStreams {
  Stream compute;
  Stream gather;
  Stream reduce;
  Stream replicate;
  Stream exchange;

  explicit TrainingStreams(Backend backend)
      : compute(backend, "compute"),
        gather(backend, "gather", -1),
        reduce(backend, "reduce", -1),
        replicate(backend, "replicate", -1),
        exchange(backend, "exchange", -1) {}

  std::array<Stream*, 5> all() { return {&compute, &gather, &reduce, &replicate, &exchange}; }
};

/// What a rank trains with, beside its communicators.
template <class T>
struct TrainingParts {
  ShardLayout layout;
  Arena arena;  // as planned, to the byte
  TrainingMemory<T> memory;
  TrainingStreams streams;
  MathHandles math;

  TrainingParts(const TrainingShape& shape, int rank);
};

/// The next micro-batch of this rank; DataLoader::next in a run.
using NextBatch = std::function<Batch()>;

template <class T>
class TrainStep {
 public:
  TrainStep(const RunConfig& config, const TrainingShape& shape, const Mesh& mesh,
            TrainingParts<T>& parts);

  /// Takes the step after `steps_done` steps; its loss and norm go to `results`. The host does not
  /// wait for the device. comm: gathers, reduce-scatters and all-reduces (the replicas' sums,
  /// the norm).
  void run(std::int64_t steps_done, const NextBatch& next_batch, StepResults& results);

  /// With stages: computes all that a step does but for the update, on whatever is there and
  /// without the other stages, and leaves nothing that a step reads. The first time takes longest,
  /// since kernels are loaded and algorithms chosen; in the first step one stage after the other
  /// would do so. comm: gathers, and the tensor- and context-parallel ranks'.
  void rehearse();

  /// The parameters change only after this point of another stream; it outlives the step.
  void update_after(const Event* event) { update_after_ = event; }
  /// The sum of the losses of this rank's batch under the present weights, 0 where another stage
  /// has the head; nothing of the training changes. The sum is there until the next call of this
  /// or of run(). comm: gathers. The host does not wait.
  Ref<const float, 1> loss_sum(const Batch& batch);

  /// Device seconds that the computation of the steps since the last call waited for communication;
  /// 0 on the host. The results of these steps were read.
  WaitSeconds take_exposed_wait() { return exposed_.take_seconds(); }
  /// NonfiniteSearch::take.
  NonfiniteFindings take_nonfinite() { return nonfinite_.take(streams_.compute); }
  double lr(std::int64_t steps_done) const { return schedule_.lr(steps_done); }
  /// Computation first; those of the links between stages last.
  std::vector<Stream*> streams();

 private:
  void perform(const Action& action, const NextBatch& next_batch, std::int64_t steps_done);
  void gather(const Action& action);
  void forward(const Action& action);
  void backward(const Action& action);
  void backward_weight(const Action& action);
  /// To and from the neighbouring stages, and between this one's runs.
  void exchange(const Action& action);
  GradientOutput output(const Action& action);
  WeightScales* make_scales();
  /// Of masters that were made or loaded.
  void find_scales();
  void renew_scales();
  /// With job/check_numerics, throws where a parameter or a gradient is not finite: those of this
  /// rank's shard, or a unit's whole ones.
  void check_shard(const char* operation, const char* of, Ref<const float, 1> shard);
  void check_gradients(int unit, const GradientOutput& gradients) {
    check_unit("gradients of parameters", "the gradient of ", unit, gradients.view);
  }
  template <class U>
  void check_unit(const char* operation, const char* of, int unit, const UnitView<U>& view);
  void update(std::int64_t steps_done);

  TrainingMemory<T> memory_;
  const ShardLayout& layout_;
  std::vector<Action> training_;
  std::vector<Action> evaluation_;
  std::vector<Action> rehearsal_;
  std::vector<Range> counted_;
  StageShape stage_shape_;
  std::string on_stage_;  // for messages; empty where there is one
  const Mesh& mesh_;
  TrainingStreams& streams_;
  BatchUpload upload_;
  ExposedWaits exposed_;
  std::optional<WeightScales> scales_;  // with matrices in FP8
  WeightGather<T> weights_;
  Event exchanged_;  // what gathers may wait for
  GradientReduce gradients_;
  NonfiniteSearch nonfinite_;
  std::optional<NumericsCheck> numerics_;  // job/check_numerics
  Stage<T> stage_;
  StageLinks links_;
  LrSchedule schedule_;
  Optimizer optimizer_;
  /// Gradients are sums over all ranks and micro-batches of each token's gradient times this.
  float loss_scale_;
  float max_norm_;
  Nonfinite on_nonfinite_;
  const Event* update_after_ = nullptr;
};

}  // namespace koios
