#include "train/step.hpp"

#include "kernels/reduce.hpp"
#include "runtime/region.hpp"
#include "shard/tensor_copies.hpp"
#include "train/step_actions.hpp"

namespace koios {

using Kind = Action::Kind;
namespace {

Write write_of(const Action& action) {
  return action.accumulate ? Write::accumulate : Write::overwrite;
}

}  // namespace

template <class T>
TrainStep<T>::TrainStep(const RunConfig& config, const TrainingShape& shape,
                        const ShardLayout& layout, const TrainingMemory<T>& memory,
                        MathHandles& math, const Mesh& mesh, TrainingStreams& streams)
    : memory_(memory),
      layout_(layout),
      training_(training_actions(shape, layout)),
      evaluation_(evaluation_actions(shape, layout)),
      counted_(layout.counted()),
      slots_(shape.stage().slots),
      mesh_(mesh),
      streams_(streams),
      upload_(memory.batch, shape.backend),
      exposed_(streams.compute),
      weights_(layout, memory.gather, memory.parameters.master, make_scales(), mesh.shard_gather(),
               streams.compute, streams.gather, exposed_.gather),
      gradients_(layout, memory.gradients, shape.reduce, mesh.shard_reduce(), streams.compute,
                 streams.reduce, exposed_.reduce),
      stage_(shape.stage(), layout, memory.stage, math, mesh.tp(), streams.compute,
             streams.exchange, exposed_.tensor),
      schedule_(config.lr_scheduler, config.optimizer.lr, config.training.steps,
                config.training.warmup_steps),
      optimizer_(config.optimizer, memory.parameters),
      loss_scale_(1.0F / static_cast<float>(shape.tokens_per_step())),
      max_norm_(static_cast<float>(config.training.max_norm)) {}

template <class T>
WeightScales* TrainStep<T>::make_scales() {
  if (!memory_.gather.scales) return nullptr;
  return &scales_.emplace(layout_, *memory_.gather.scales, memory_.parameters.master,
                          mesh_.shard_reduce(), mesh_.tp(), streams_.compute);
}

template <class T>
void TrainStep<T>::run(std::int64_t steps_done, const NextBatch& next_batch, StepResults& results) {
  exposed_.start_step();
  find_scales();
  for (const Action& action : training_) perform(action, next_batch, steps_done);
  results.record(streams_.compute, memory_.loss_sum, memory_.norm.norm);
}

template <class T>
Ref<const float, 1> TrainStep<T>::loss_sum(const Batch& batch) {
  exposed_.start_step();  // otherwise its events would be more with every batch
  find_scales();
  for (const Action& action : evaluation_)
    perform(
        action, [&] { return batch; }, 0);
  return memory_.loss_sum;
}

template <class T>
void TrainStep<T>::find_scales() {
  if (!scales_ || scales_->is_known()) return;
  exposed_.reduce.run([&] { scales_->find(); });
  weights_.invalidate();
}

template <class T>
void TrainStep<T>::perform(const Action& action, const NextBatch& next_batch,
                           std::int64_t steps_done) {
  mesh_.recorder().enter(describe(action, layout_));
  switch (action.kind) {
    case Kind::load:
      stage_.set_batch(slot(action), upload_.upload(next_batch(), slot(action), streams_.compute));
      return;
    case Kind::gather:
      return weights_.gather(action.unit);
    case Kind::forward:
    case Kind::evaluate:
      return forward(action);
    case Kind::recompute:
      return stage_.recompute(action.unit, slot(action), weights_.acquire(action.unit).view());
    case Kind::backward:
      return backward(action);
    case Kind::reduce:
      return gradients_.reduce(action.unit, write_of(action));
    case Kind::update:
      return update(steps_done);
  }
}

template <class T>
void TrainStep<T>::forward(const Action& action) {
  const Region region(streams_.compute, "forward");
  const auto lease = weights_.acquire(action.unit);
  if (layout_.unit(action.unit).role != UnitRole::head) {
    return stage_.forward(action.unit, slot(action), lease.view());
  }
  if (action.kind == Kind::evaluate) {
    stage_.evaluate_head(action.unit, slot(action), lease.view());
  } else {
    stage_.forward_backward_head(action.unit, slot(action), loss_scale_, lease.view(),
                                 output(action));
  }
  sum(streams_.compute, memory_.loss_sum, stage_.losses(), memory_.norm.partials,
      action.micro_batch > 0);
}

template <class T>
void TrainStep<T>::backward(const Action& action) {
  const Region region(streams_.compute, "backward");
  if (layout_.unit(action.unit).role == UnitRole::embedding) {
    return stage_.backward_embedding(slot(action), output(action));
  }
  const auto lease = weights_.acquire(action.unit);
  stage_.backward(action.unit, slot(action), lease.view(), output(action));
}

template <class T>
GradientOutput TrainStep<T>::output(const Action& action) {
  return {gradients_.begin(action.unit), write_of(action)};
}

template <class T>
void TrainStep<T>::update(std::int64_t steps_done) {
  Stream& compute = streams_.compute;
  gradients_.finish();
  exposed_.tensor.run([&] { sum_tensor_copies(compute, layout_, gradients_.shard(), mesh_.tp()); });
  {
    const Region region(compute, "gradient norm", passes_over(gradients_.shard()));
    gradient_norm(compute, memory_.norm, gradients_.shard(), counted_, mesh_.model(), max_norm_);
  }
  if (update_after_ != nullptr) compute.wait(*update_after_);
  const ParameterBuffers& p = memory_.parameters;
  const Region region(compute, "optimizer",
                      passes_over(gradients_.shard(), p.master, p.master, p.exp_avg, p.exp_avg,
                                  p.exp_avg_sq, p.exp_avg_sq));
  optimizer_.update(compute, steps_done + 1, lr(steps_done), gradients_.shard(), memory_.norm.scale,
                    scales_ ? scales_->begin_update() : AmaxRanges{});
  if (scales_) exposed_.reduce.run([&] { scales_->end_update(); });
  weights_.invalidate();
}

template class TrainStep<float>;
template class TrainStep<bf16>;

}  // namespace koios
