#include "train/step_decision.hpp"

#include <array>

#include "comm/host_reduce.hpp"

namespace koios {

StepDecision decide(const RunConfig& config, std::int64_t step, const StepRequests& requests) {
  const CheckpointConfig& checkpoint = config.checkpoint;
  const bool is_multiple =
      checkpoint.interval_type == IntervalType::steps && step % checkpoint.interval == 0;
  StepDecision d;
  d.last = step == config.training.steps;
  d.save = checkpoint.is_on() &&
           (d.last || (step == 1 && checkpoint.save_first_step) || is_multiple || requests.save);
  d.validate = config.validation.is_on() && (d.last || step % config.validation.interval == 0);
  // A step that is saved is logged too: what is saved is known to be finite, and a resumed run
  // writes the same lines as one that was never stopped.
  d.log = d.save || d.validate || d.last || step == 1 || step % config.metrics.log_freq == 0;
  return d;
}

StepDecision StepDecider::after(std::int64_t step) {
  return decide(config_, step, agree_on_requests());
}

StepRequests StepDecider::agree_on_requests() {
  const CheckpointConfig& checkpoint = config_.checkpoint;
  if (!checkpoint.is_on() || checkpoint.interval_type == IntervalType::steps) return {};
  // One clock decides for all.
  const bool is_due =
      mesh_.rank() == 0 && since_save_.seconds() >= static_cast<double>(checkpoint.interval);
  std::array<double, 1> save = {is_due ? 1.0 : 0.0};
  all_reduce_max(mesh_.host_world(), save);
  return {.save = save[0] > 0};
}

}  // namespace koios
