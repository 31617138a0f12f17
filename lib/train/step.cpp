#include "train/step.hpp"

#include "kernels/reduce.hpp"
#include "shard/replicated.hpp"

namespace koios {

template <class T>
TrainStep<T>::TrainStep(const RunConfig& config, const TrainingShape& shape,
                        const ShardLayout& layout, const TrainingMemory<T>& memory,
                        MathHandles& math, const Mesh& mesh, TrainingStreams& streams)
    : shape_(shape),
      memory_(memory),
      layout_(layout),
      counted_(layout.counted()),
      mesh_(mesh),
      streams_(streams),
      upload_(memory.step, shape.backend),
      exposed_(streams.compute),
      weights_(layout, memory.gather, memory.parameters.master, mesh.shard_gather(),
               streams.compute, streams.gather, exposed_),
      gradients_(layout, memory.gradients, shape.reduce, mesh.shard_reduce(), streams.compute,
                 streams.reduce, exposed_),
      model_(shape.model, shape.micro_batch, memory.model, math, mesh.tp(), streams.compute,
             streams.exchange, exposed_),
      schedule_(config.lr_scheduler, config.optimizer.lr, config.training.steps,
                config.training.warmup_steps),
      optimizer_(config.optimizer, memory.parameters),
      max_norm_(static_cast<float>(config.training.max_norm)) {}

template <class T>
void TrainStep<T>::run(std::int64_t steps_done, const NextBatch& next_batch, StepResults& results,
                       Timers& timers) {
  Stream& compute = streams_.compute;
  // Gradients are sums over all ranks and micro-batches of each token's gradient times this.
  const float loss_scale = 1.0F / static_cast<float>(shape_.tokens_per_step());

  exposed_.start_step();
  for (int micro = 0; micro < shape_.reduce.micro_batches; ++micro) {
    const Batch batch = [&] {
      const auto timer = timers.scope("data");
      return next_batch();
    }();
    const DeviceBatch on_device = upload_.upload(batch, compute);
    gradients_.start_micro_batch(micro);
    model_.forward_backward(on_device, loss_scale, shape_.gather.prefetch_blocks, weights_,
                            gradients_);
    sum(compute, memory_.step.loss_sum, model_.losses(), memory_.norm.partials, micro > 0);
  }
  gradients_.finish();
  exposed_.measure([&] { sum_replicated(compute, layout_, gradients_.shard(), mesh_.tp()); });
  gradient_norm(compute, memory_.norm, gradients_.shard(), counted_, mesh_.stage(), max_norm_);
  if (update_after_ != nullptr) compute.wait(*update_after_);
  optimizer_.update(compute, steps_done + 1, lr(steps_done), gradients_.shard(),
                    memory_.norm.scale);
  weights_.invalidate();
  results.record(compute, memory_.step.loss_sum, memory_.norm.norm);
}

template <class T>
Ref<const float, 1> TrainStep<T>::loss_sum(const Batch& batch) {
  Stream& compute = streams_.compute;
  exposed_.start_step();  // otherwise its events would be more with every batch
  model_.forward(upload_.upload(batch, compute), shape_.gather.prefetch_blocks, weights_);
  sum(compute, memory_.step.loss_sum, model_.losses(), memory_.norm.partials, false);
  return memory_.step.loss_sum;
}

template class TrainStep<float>;
template class TrainStep<bf16>;

}  // namespace koios
