#include "optim/optimizer.hpp"

#include <cmath>

#include "core/random.hpp"
#include "runtime/copy.hpp"

namespace koios {

Optimizer::Optimizer(const OptimizerConfig& config, const ParameterBuffers& parameters,
                     const ShardLayout& layout, std::int64_t seed, Stream& stream)
    : config_(config), parameters_(parameters), seed_(static_cast<std::uint64_t>(seed)) {
  if (parameters.places.size() == 0) return;
  places_ = element_places(layout);
  const auto words = [count = std::ssize(places_)](void* places) {
    constexpr std::int64_t kWords = sizeof(ElementPlace) / sizeof(std::int64_t);
    return AnyRef{places, count * kWords, DType::int64};
  };
  copy(stream, words(parameters.places.data), words(places_.data()));
}

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
  const auto update_in = [&]<class State>(State) {
    adam_update(stream, p.master, p.exp_avg.as<State>(), p.exp_avg_sq.as<State>(), gradient_shard,
                grad_scale, step, cast, {key_of_step(seed_, t), p.places});
  };
  if (p.exp_avg.dtype == DType::bfloat16) {
    update_in(bf16{});
  } else {
    update_in(float{});
  }
}

}  // namespace koios
