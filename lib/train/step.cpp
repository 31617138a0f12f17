#include "train/step.hpp"

#include "core/integers.hpp"
#include "data/embedding_index.hpp"
#include "kernels/elementwise.hpp"
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

std::vector<int> reduced_units(const std::vector<Action>& actions) {
  std::vector<int> units;
  for (const Action& action : actions) {
    if (action.kind == Kind::reduce) units.push_back(action.unit);
  }
  return units;
}

/// Each sequence into so many documents of about the same length.
void cut(Batch& batch, std::int64_t documents) {
  for (std::size_t row = 0; row < batch.document_start.size(); ++row) {
    const std::int64_t position = static_cast<std::int64_t>(row) % batch.seq_len;
    const std::int64_t document = position * documents / batch.seq_len;
    batch.document_start[row] = narrow<std::int32_t>(ceil_div(document * batch.seq_len, documents));
  }
}

}  // namespace

template <class T>
TrainingParts<T>::TrainingParts(const TrainingShape& shape, int rank)
    : layout(shard_layout(shape, rank)),
      arena(shape.backend, plan_memory(shape, layout.stage()),
            "use more ranks, " + smaller_plan(shape.moments)),
      memory(arena, shape, layout),
      streams(shape.backend),
      math(shape.backend, shape.math, memory.library_workspace) {
  const std::int64_t planned = std::ssize(arena.memory());
  KOIOS_REQUIRE(arena.taken().total_bytes == planned, "the plan says ", planned, " bytes, ",
                arena.taken().total_bytes, " were used");
}

template <class T>
TrainStep<T>::TrainStep(const RunConfig& config, const TrainingShape& shape, const Mesh& mesh,
                        TrainingParts<T>& parts)
    : memory_(parts.memory),
      layout_(parts.layout),
      training_(training_actions(shape, layout_)),
      evaluation_(evaluation_actions(shape, layout_)),
      rehearsal_(rehearsal_actions(shape, layout_)),
      counted_(layout_.counted()),
      stage_shape_(shape.stage(layout_.stage())),
      on_stage_(shape.mesh.size(Axis::pp) > 1 ? cat(" on stage ", layout_.stage()) : ""),
      mesh_(mesh),
      streams_(parts.streams),
      upload_(memory_.batch, shape.backend),
      exposed_(streams_.compute),
      weights_(layout_, memory_.gather, memory_.parameters.master, make_scales(),
               mesh.shard_gather(), streams_.compute, streams_.gather, exposed_.gather),
      exchanged_(shape.backend),
      gradients_(layout_, memory_.gradients, shape.reduce, mesh.shard_reduce(), mesh.replicate(),
                 {streams_.compute, streams_.reduce, streams_.replicate}, exposed_.reduce),
      nonfinite_(layout_, memory_.nonfinite, memory_.parameters.master, gradients_.shard(),
                 gradients_.full(), reduced_units(training_), streams_.compute),
      stage_(stage_shape_, layout_, memory_.stage, parts.math, mesh.tp(),
             {mesh.context(), mesh.context_reversed()}, streams_.compute, streams_.exchange,
             exposed_),
      links_(mesh, shape.path(), stage_shape_, any(stage_.output_gradient(0)), streams_.compute,
             exposed_.pipeline),
      schedule_(config.lr_scheduler, config.optimizer.lr, config.training.steps,
                config.training.warmup_steps),
      optimizer_(config.optimizer, memory_.parameters, layout_, config.job.seed, streams_.compute),
      loss_scale_(1.0F / static_cast<float>(shape.tokens_per_step())),
      max_norm_(static_cast<float>(config.training.max_norm)),
      on_nonfinite_(config.training.on_nonfinite == OnNonfinite::go_on ? Nonfinite::apply
                                                                       : Nonfinite::skip) {
  if (layout_.held(UnitRole::head).empty()) fill(streams_.compute, memory_.loss_sum, 0);
  if (config.job.check_numerics) {
    numerics_.emplace(memory_.nonfinite.count_of_result, cat("rank ", mesh.rank()));
    stage_.check_with(&*numerics_);
  }
}

template <class T>
WeightScales* TrainStep<T>::make_scales() {
  if (!memory_.gather.scales) return nullptr;
  return &scales_.emplace(layout_, *memory_.gather.scales, memory_.parameters.master,
                          mesh_.shard_reduce(), mesh_.tp(), streams_.compute);
}

template <class T>
void TrainStep<T>::run(std::int64_t steps_done, const NextBatch& next_batch, StepResults& results) {
  exposed_.start_step(true);
  if (numerics_) {
    numerics_->at_step(cat("step ", steps_done + 1));
    numerics_->enter("its start");
    check_shard("initial values or the update before", "", memory_.parameters.master);
  }
  find_scales();
  stage_.begin_fp8_step();
  for (const Action& action : training_) perform(action, next_batch, steps_done);
  results.record(streams_.compute, memory_.loss_sum, memory_.norm.norm, stage_.fp8_counts());
}

template <class T>
void TrainStep<T>::rehearse() {
  if (numerics_) return;  // what another stage would send is not there
  exposed_.start_step(false);
  find_scales();
  Batch batch;
  batch.sequences = stage_shape_.micro_batch.batch_size;
  batch.seq_len = stage_shape_.micro_batch.seq_len;
  batch.tokens.resize(static_cast<std::size_t>(stage_shape_.micro_batch.tokens()));
  batch.labels = batch.tokens;
  batch.document_start = batch.tokens;
  batch.index = make_embedding_index(batch.tokens);
  const NextBatch same = [&] { return batch; };
  // The fused attention has a plan for each power of two of documents, which is loaded, too.
  const MicroBatchShape& micro_batch = stage_shape_.micro_batch;
  const bool has_plans = micro_batch.document_mask && micro_batch.context_ranks == 1 &&
                         streams_.compute.backend() == Backend::cuda;
  const std::int64_t most = has_plans ? batch.seq_len : 1;
  for (std::int64_t documents = 1; documents <= most; documents *= 2) {
    cut(batch, documents);
    for (const Action& action : rehearsal_) perform(action, same, 0);
  }
  stage_.forget_fp8_counts();
}

template <class T>
std::vector<Stream*> TrainStep<T>::streams() {
  const auto own = streams_.all();
  std::vector<Stream*> streams(own.begin(), own.end());
  for (Stream* stream : links_.streams()) streams.push_back(stream);
  return streams;
}

template <class T>
Ref<const float, 1> TrainStep<T>::loss_sum(const Batch& batch) {
  exposed_.start_step(false);
  find_scales();
  const NextBatch same = [&] { return batch; };
  for (const Action& action : evaluation_) perform(action, same, 0);
  return memory_.loss_sum;
}

template <class T>
void TrainStep<T>::find_scales() {
  if (!scales_ || scales_->is_known()) return;
  renew_scales();
  weights_.invalidate(false);
}

template <class T>
void TrainStep<T>::renew_scales() {
  scales_->look();
  exposed_.reduce.run([&] { scales_->share(); });
}

template <class T>
void TrainStep<T>::perform(const Action& action, const NextBatch& next_batch,
                           std::int64_t steps_done) {
  std::string part = describe(action, layout_);
  if (action.kind != Kind::update) part += cat(", micro-batch ", action.micro_batch);
  part += on_stage_;
  mesh_.recorder().enter(part);
  if (numerics_) numerics_->enter(part);
  switch (action.kind) {
    case Kind::load:
      return stage_.set_batch(action.slot,
                              upload_.upload(next_batch(), action.slot, streams_.compute));
    case Kind::reload:
      return stage_.set_batch_of(action.slot, action.buffer);
    case Kind::gather:
      return gather(action);
    case Kind::receive:
    case Kind::send:
    case Kind::hand_over:
    case Kind::receive_gradient:
    case Kind::send_gradient:
    case Kind::hand_back:
      return exchange(action);
    case Kind::forward:
    case Kind::evaluate:
      return forward(action);
    case Kind::recompute:
      return stage_.recompute(action.unit, action.slot, weights_.acquire(action.unit).view());
    case Kind::backward:
    case Kind::backward_input:
      return backward(action);
    case Kind::backward_weight:
      return backward_weight(action);
    case Kind::reduce:
      return gradients_.reduce(action.unit, write_of(action));
    case Kind::all_reduce:
      return gradients_.all_reduce(action.unit);
    case Kind::update:
      return update(steps_done);
  }
}

template <class T>
void TrainStep<T>::gather(const Action& action) {
  if (action.awaits_exchange) {
    exchanged_.record(streams_.exchange);
    streams_.gather.wait(exchanged_);
  }
  weights_.gather(action.unit, action.values);
}

template <class T>
void TrainStep<T>::exchange(const Action& action) {
  const int run = layout_.run_of(action.unit);
  const int slot = action.slot;
  const int buffer = action.buffer;
  switch (action.kind) {
    case Kind::receive:
      return links_.receive(run, any(stage_.input(buffer)), buffer);
    case Kind::send: {
      const Ref<T, 2> output = stage_.output(buffer);
      links_.await_sent(buffer);
      stage_.form_output(slot, output);
      return links_.send(run, any(output), buffer);
    }
    case Kind::hand_over:
      return stage_.form_output(slot, stage_.input(buffer));
    case Kind::receive_gradient:
      return links_.receive_gradient(run, any(stage_.output_gradient(slot)), slot);
    case Kind::hand_back:
      return stage_.hand_back(slot, buffer);
    default:
      return links_.send_gradient(run, any(stage_.input_gradient(slot)), slot);
  }
}

template <class T>
void TrainStep<T>::forward(const Action& action) {
  const Region region(streams_.compute, "forward");
  const auto lease = weights_.acquire(action.unit);
  check_unit("cast and gather", "", action.unit, lease.view());
  if (layout_.receives_into(action.unit)) links_.await_received(action.buffer);
  if (layout_.takes_input(action.unit)) stage_.set_input(action.slot, action.buffer);
  if (layout_.unit(action.unit).role != UnitRole::head) {
    return stage_.forward(action.unit, action.slot, lease.view());
  }
  if (action.kind == Kind::evaluate) {
    stage_.evaluate_head(action.unit, action.slot, lease.view());
  } else {
    const int run = layout_.run_of(action.unit);
    if (links_.sends_gradients(run)) links_.await_sent_gradient(action.slot);  // it is written anew
    const GradientOutput gradients = output(action);
    stage_.forward_backward_head(action.unit, action.slot, loss_scale_, lease.view(), gradients);
    check_gradients(action.unit, gradients);
  }
  sum(streams_.compute, memory_.loss_sum, stage_.losses(), memory_.norm.partials,
      action.micro_batch > 0);
}

template <class T>
void TrainStep<T>::backward(const Action& action) {
  const Region region(streams_.compute, "backward");
  if (layout_.unit(action.unit).role == UnitRole::embedding) {
    const GradientOutput gradients = output(action);
    stage_.backward_embedding(action.slot, gradients);
    return check_gradients(action.unit, gradients);
  }
  const auto lease = weights_.acquire(action.unit);
  if (layout_.sends_from(action.unit)) links_.await_received_gradient(action.slot);
  const GradientOutput gradients = output(action);
  if (action.kind == Kind::backward) {
    stage_.backward(action.unit, action.slot, lease.view(), gradients);
    return check_gradients(action.unit, gradients);
  }
  // Its gradient goes where that of another micro-batch may still be on its way from.
  if (layout_.receives_into(action.unit)) links_.await_sent_gradient(action.slot);
  stage_.backward_input(action.unit, action.slot, lease.view(), gradients);
}

template <class T>
void TrainStep<T>::backward_weight(const Action& action) {
  const Region region(streams_.compute, "backward weight");
  const GradientOutput gradients = output(action);
  stage_.backward_weight(action.unit, action.slot, gradients);
  check_gradients(action.unit, gradients);
}

template <class T>
void TrainStep<T>::check_shard(const char* operation, const char* of, Ref<const float, 1> shard) {
  if (!numerics_) return;
  for (const UnitLayout& unit : layout_.units()) {
    if (!unit.is_held) continue;
    for (const ParameterLayout& p : unit.parameters) {
      numerics_->result(streams_.compute, operation, of + p.spec.name,
                        slice(shard, p.in_shard.first, p.here.size()));
    }
  }
}

template <class T>
template <class U>
void TrainStep<T>::check_unit(const char* operation, const char* of, int unit,
                              const UnitView<U>& view) {
  if (!numerics_) return;
  const std::vector<ParameterLayout>& parameters = layout_.unit(unit).parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (view.is_narrow(static_cast<int>(i))) continue;  // 8 bits hold no infinity
    const auto matrix = view.matrix(static_cast<int>(i));
    numerics_->result(streams_.compute, operation, of + parameters[i].spec.name,
                      Ref<const std::remove_const_t<U>, 2>(matrix));
  }
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
  check_shard("sum over ranks", "the gradient of ", gradients_.shard());
  {
    const Region region(compute, "gradient norm", passes_over(gradients_.shard()));
    gradient_norm(compute, memory_.norm, gradients_.shard(), counted_, mesh_.world(), max_norm_,
                  memory_.loss_sum, on_nonfinite_);
    nonfinite_.look(compute, memory_.norm.norm);
  }
  stage_.end_fp8_step(memory_.norm.norm);
  if (update_after_ != nullptr) compute.wait(*update_after_);
  const ParameterBuffers& p = memory_.parameters;
  Ref<bf16, 1> cast;
  if constexpr (std::is_same_v<T, bf16>) cast = weights_.cast_shard();
  const Region region(compute, "optimizer",
                      passes_over(gradients_.shard(), p.master, p.master, p.exp_avg, p.exp_avg,
                                  p.exp_avg_sq, p.exp_avg_sq, cast));
  optimizer_.update(compute, steps_done + 1, lr(steps_done), gradients_.shard(), memory_.norm.scale,
                    cast);
  if (scales_) renew_scales();
  weights_.invalidate(cast.size() > 0);
}

template struct TrainingParts<float>;
template struct TrainingParts<bf16>;
template class TrainStep<float>;
template class TrainStep<bf16>;

}  // namespace koios
