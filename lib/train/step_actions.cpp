#include "train/step_actions.hpp"

#include <algorithm>

#include "shard/slots.hpp"

namespace koios {
namespace {

std::vector<StageUnit> stage_units(const TrainingShape& shape, const ShardLayout& layout) {
  const bool gathers = must_gather(shape.compute, layout, shape.gather);
  const std::vector<int> buffers =
      slots_of_units(layout, gather_block_buffers(shape.compute, layout, shape.gather));
  std::vector<StageUnit> units;
  for (int unit = 0; unit < static_cast<int>(layout.units().size()); ++unit) {
    const UnitLayout& u = layout.unit(unit);
    if (!u.is_held) continue;
    const Recompute level =
        u.role == UnitRole::block ? shape.recompute.of_block(u.layer) : Recompute::none;
    const bool multiplies_again = level == Recompute::op_half || level == Recompute::full;
    const bool has_two = shape.gather.narrow == Fp8ScaleKind::row && narrow_elements(u) > 0;
    units.push_back(
        {.unit = unit,
         .run = layout.run_of(unit),
         .role = u.role,
         .weight_buffer = gathers ? buffers[static_cast<std::size_t>(unit)] : -1,
         .is_recomputed = level != Recompute::none,
         .forward_values = has_two ? kForwardValues : kAllValues,
         .backward_values = has_two && !multiplies_again ? kBackwardValues : kAllValues});
  }
  return units;
}

/// Whether gathers ahead are begun behind the computation that hides them, and wait for what it
/// exchanges: the copies of the next block's weights would hold up those of the keys and values
/// that attention waits for.
bool keys_go_first(const TrainingShape& shape) {
  return shape.backend == Backend::cuda && shape.mesh.size(Axis::cp) > 1;
}

std::vector<Action> actions_of(const std::vector<Pass>& schedule, const TrainingShape& shape,
                               const ShardLayout& layout) {
  const StageShape stage = shape.stage(layout.stage());
  return make_actions(schedule, stage_units(shape, layout),
                      {.runs = stage.runs,
                       .prefetch = shape.gather.prefetch_blocks,
                       .is_behind = keys_go_first(shape),
                       .is_sharded = layout.ranks() > 1,
                       .is_replicated = shape.mesh.size(Axis::dp_replicate) > 1,
                       .every_micro_batch = shape.reduce.every_micro_batch});
}

}  // namespace

std::vector<Action> training_actions(const TrainingShape& shape, const ShardLayout& layout) {
  return actions_of(shape.schedule(layout.stage()), shape, layout);
}

std::vector<Action> evaluation_actions(const TrainingShape& shape, const ShardLayout& layout) {
  return actions_of(evaluation(shape.pipeline.runs), shape, layout);
}

std::vector<Action> rehearsal_actions(const TrainingShape& shape, const ShardLayout& layout) {
  if (shape.mesh.size(Axis::pp) == 1) return {};
  std::vector<Action> actions =
      actions_of(rehearsal(shape.pipeline.schedule, shape.pipeline.runs), shape, layout);
  std::erase_if(actions, [](const Action& action) {
    using enum Action::Kind;
    static constexpr Action::Kind kWithOthers[] = {
        receive, send, receive_gradient, send_gradient, reduce, all_reduce, update};
    return std::ranges::find(kWithOthers, action.kind) != std::end(kWithOthers);
  });
  return actions;
}

}  // namespace koios
