#include "optim/optimizer.hpp"

#include <cmath>

namespace koios {

void Optimizer::update(Stream& stream, std::int64_t t, double lr,
                       Ref<const float, 1> gradient_shard, Ref<const float, 1> grad_scale) const {
  const auto steps = static_cast<double>(t);
  AdamStep step;
  step.lr = static_cast<float>(lr);
  step.beta1 = static_cast<float>(config_.beta1);
  step.beta2 = static_cast<float>(config_.beta2);
  step.eps = static_cast<float>(config_.eps);
  step.weight_decay = static_cast<float>(config_.weight_decay);
  step.decoupled = config_.name == OptimizerName::adamw;
  step.bias_correction1 = static_cast<float>(1 - std::pow(config_.beta1, steps));
  step.bias_correction2 = static_cast<float>(1 - std::pow(config_.beta2, steps));
  adam_update(stream, parameters_.master, parameters_.exp_avg, parameters_.exp_avg_sq,
              gradient_shard, grad_scale, step);
}

}  // namespace koios
