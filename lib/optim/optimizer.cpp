#include "optim/optimizer.hpp"

#include <cmath>

namespace koios {

void Optimizer::update(Stream& stream, std::int64_t t, double lr,
                       Ref<const float, 1> gradient_shard, Ref<const float, 1> grad_scale,
                       Ref<bf16, 1> cast) const {
  const auto steps = static_cast<double>(t);
  AdamStep step;
  step.lr = lr;
  step.beta1 = config_.beta1;
  step.beta2 = config_.beta2;
  step.eps = config_.eps;
  step.weight_decay = config_.weight_decay;
  step.decoupled = config_.name == OptimizerName::adamw;
  step.bias_correction1 = 1 - std::pow(config_.beta1, steps);
  step.bias_correction2 = 1 - std::pow(config_.beta2, steps);
  const ParameterBuffers& p = parameters_;
  adam_update(stream, p.master, p.exp_avg, p.exp_avg_sq, gradient_shard, grad_scale, step, cast);
}

}  // namespace koios
