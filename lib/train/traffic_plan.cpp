#include "train/traffic_plan.hpp"

#include <vector>

#include "core/integers.hpp"
#include "train/step_actions.hpp"

namespace koios {

namespace {

/// What a rank sends in an all-reduce of that many bytes.
std::int64_t all_reduce_sent(std::int64_t bytes, std::int64_t ranks) {
  return 2 * (ranks - 1) * bytes / ranks;
}

/// Between context-parallel ranks: every pass of attention wants the keys and values of all.
void add_context_parallel(SentBytes& plan, const TrainingShape& shape, int stage,
                          const ShardLayout& layout, const std::vector<Action>& actions) {
  const LocalShape local = shape.stage(stage).local();
  for (const Action& action : actions) {
    if (action.unit < 0) continue;
    const ContextBytes bytes = context_bytes_of(action, shape, local, layout.unit(action.unit));
    plan.context_all_gather_bytes += bytes.all_gather;
    plan.context_reduce_scatter_bytes += bytes.reduce_scatter;
  }
}

}  // namespace

ContextBytes context_bytes_of(const Action& action, const TrainingShape& shape,
                              const LocalShape& local, const UnitLayout& unit) {
  if (unit.role != UnitRole::block) return {};
  const std::int64_t elements = (local.context.ranks - 1) * local.tokens * 2 * local.kv_cols;
  const bool attends_again =
      action.kind == Action::Kind::recompute && shape.recompute.level == Recompute::full;
  const bool is_backward =
      action.kind == Action::Kind::backward || action.kind == Action::Kind::backward_input;
  ContextBytes bytes;
  if (action.kind == Action::Kind::forward || attends_again || is_backward) {
    bytes.all_gather = elements * size_of(shape.compute);
  }
  if (is_backward) bytes.reduce_scatter = elements * std::int64_t{sizeof(float)};
  return bytes;
}

namespace {

/// Of a block, in the compute type.
Exchanges block_exchanges(Action::Kind kind, Recompute level, bool is_fp8) {
  switch (kind) {
    case Action::Kind::forward:  // into q|k|v and w1|w3, out of wo and w2
    case Action::Kind::backward_input:
      return {2, 2};
    case Action::Kind::backward:
      // The gradients into wo and w2, and the inputs of q|k|v and w1|w3 again, since only a rank's
      // own rows are kept (but all of the 8-bit ones); out of q|k|v and w1|w3.
      return {is_fp8 ? 2 : 4, 2};
    case Action::Kind::backward_weight:  // the gradients into wo and w2 once more
      return {is_fp8 ? 2 : 4, 0};
    case Action::Kind::recompute:  // into q|k|v and w1|w3 and out of wo
      if (level >= Recompute::op_half) return {2, 1};
      return {is_fp8 ? 2 : 0, 0};
    default:
      return {};
  }
}

}  // namespace

Exchanges exchanges_of(const Action& action, const TrainingShape& shape, const UnitLayout& unit) {
  const bool is_forward = action.kind == Action::Kind::forward;
  if (unit.role == UnitRole::block) {
    const Fp8Recipe recipe = shape.fp8.of_block(unit.layer);
    const Exchanges e =
        block_exchanges(action.kind, shape.recompute.level, recipe != Fp8Recipe::none);
    if (recipe != Fp8Recipe::tensorwise) return e;
    const bool is_first =
        action.kind != Action::Kind::recompute && action.kind != Action::Kind::backward_weight;
    return {0, e.reduce_scatters, e.gathers, is_first ? e.gathers : 0};
  }
  if (unit.role == UnitRole::head && is_forward) return {1, 1};
  if (is_forward) return {0, 1};
  return action.kind == Action::Kind::backward ? Exchanges{1, 0} : Exchanges{};
}

namespace {

/// Between tensor-parallel ranks.
void add_tensor_parallel(SentBytes& plan, const TrainingShape& shape, const ShardLayout& layout,
                         const std::vector<Action>& actions) {
  const std::int64_t tp = shape.tensor.ranks;
  const std::int64_t tokens = shape.micro_batch.tokens();
  const std::int64_t sent_rows = tokens / tp * (tp - 1);
  const std::int64_t sent_per_column = sent_rows * size_of(shape.compute);
  const std::int64_t sent = sent_per_column * shape.model.dim;
  const bool loss_parallel = shape.tensor.loss_parallel;
  for (const Action& action : actions) {
    if (action.unit < 0) continue;
    const UnitLayout& unit = layout.unit(action.unit);
    const Exchanges exchanges = exchanges_of(action, shape, unit);
    // Embedding and head have no product to hide the sum of their outputs under.
    if (shape.tensor.asynchronous) {
      const bool hides_sums = unit.role == UnitRole::block;
      plan.tensor_send_bytes +=
          sent * (exchanges.gathers + (hides_sums ? exchanges.reduce_scatters : 0));
      if (!hides_sums) plan.tensor_reduce_scatter_bytes += sent * exchanges.reduce_scatters;
    } else {
      plan.tensor_all_gather_bytes += sent * exchanges.gathers;
      plan.tensor_reduce_scatter_bytes += sent * exchanges.reduce_scatters;
    }
    plan.tensor_all_gather_bytes += sent_rows * shape.model.dim * exchanges.narrow_gathers;
    plan.all_reduce_bytes += exchanges.amaxes * all_reduce_sent(std::int64_t{sizeof(float)}, tp);
    if (action.kind != Action::Kind::forward || unit.role != UnitRole::head) continue;
    if (!loss_parallel) {
      plan.tensor_all_gather_bytes += sent_per_column * shape.model.vocab_size;
      continue;
    }
    for (const Range& chunk : in_pieces({0, tokens}, head_chunk(shape.backend, tokens))) {
      const std::int64_t bytes = chunk.count * std::int64_t{sizeof(float)};
      plan.all_reduce_bytes += all_reduce_sent(bytes, tp) + all_reduce_sent(2 * bytes, tp);
    }
  }
  for (const UnitLayout& unit : layout.units()) {
    for (const ParameterLayout& p : unit.parameters) {
      if (!unit.is_held || p.spec.split != Split::none) continue;
      plan.all_reduce_bytes += all_reduce_sent(p.part_size() * std::int64_t{sizeof(float)}, tp);
    }
  }
}

}  // namespace

SentBytes plan_traffic(const TrainingShape& shape, int stage) {
  const ShardLayout layout = shard_layout(shape, shape.first_rank(stage));
  const std::vector<Action> actions = training_actions(shape, layout);
  const std::int64_t ranks = layout.ranks();
  SentBytes plan;
  for (const Action& action : actions) {
    if (action.kind == Action::Kind::send || action.kind == Action::Kind::send_gradient) {
      plan.pipeline_bytes +=
          shape.stage(stage).local().rows * shape.model.dim * size_of(shape.compute);
    }
    if (action.unit < 0) continue;
    const UnitLayout& unit = layout.unit(action.unit);
    const auto sent = [&](std::int64_t bytes) { return bytes / ranks * (ranks - 1); };
    if (action.kind == Action::Kind::gather) {
      plan.all_gather_bytes +=
          sent(gathered_bytes(unit, shape.compute, layout, shape.gather, action.values));
    } else if (action.kind == Action::Kind::reduce) {
      plan.reduce_scatter_bytes +=
          sent(unit.gathered_elements(layout.ranks()) * size_of(shape.reduce.dtype));
    } else if (action.kind == Action::Kind::all_reduce) {
      plan.replica_all_reduce_bytes +=
          all_reduce_sent(unit.in_shard.count * size_of(shape.reduce.dtype), shape.reduce.replicas);
    }
  }
  if (shape.tensor.ranks > 1) add_tensor_parallel(plan, shape, layout, actions);
  if (shape.micro_batch.context_ranks > 1) {
    add_context_parallel(plan, shape, stage, layout, actions);
  }
  plan.all_reduce_bytes += all_reduce_sent(sizeof(float), shape.mesh.ranks());
  if (shape.gather.narrow) {
    const std::int64_t bytes = shared_scale_bytes(layout, *shape.gather.narrow);
    plan.all_reduce_bytes += all_reduce_sent(bytes, ranks);
    if (*shape.gather.narrow == Fp8ScaleKind::matrix) {
      plan.all_reduce_bytes += all_reduce_sent(bytes, shape.tensor.ranks);
    }
  }
  return plan;
}

}  // namespace koios
