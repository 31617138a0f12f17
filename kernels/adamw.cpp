#include "kernels/adamw.hpp"

#include <cmath>

#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;
using detail::store;

struct Update {
  Ref<float, 1> parameter, exp_avg, exp_avg_sq;
  Ref<const float, 1> gradient, grad_scale;
  float one_minus_beta1, beta2, one_minus_beta2, eps;
  float coupled_decay;    // g += coupled_decay * p
  float kept;             // p *= kept
  float step_size;        // lr / bias_correction1
  float root_correction;  // 1 / sqrt(bias_correction2)

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t i) const {
    // All reads are under way before the first is waited for.
    const float scale = grad_scale[0];
    auto p = load(width, parameter.data + i);
    auto m = load(width, exp_avg.data + i);
    auto v = load(width, exp_avg_sq.data + i);
    auto g = load(width, gradient.data + i);
    if (scale == 0) return;
    g = g * scale + p * coupled_decay;
    m = m + (g - m) * one_minus_beta1;
    v = v * beta2 + g * g * one_minus_beta2;
    p = p * kept - m * step_size / (sqrt(v) * root_correction + eps);
    store(parameter.data + i, p);
    store(exp_avg.data + i, m);
    store(exp_avg_sq.data + i, v);
  }
};

}  // namespace

void adam_update(Stream& s, Ref<float, 1> parameter, Ref<float, 1> exp_avg,
                 Ref<float, 1> exp_avg_sq, Ref<const float, 1> gradient,
                 Ref<const float, 1> grad_scale, const AdamStep& step) {
  const std::int64_t size = parameter.extent[0];
  KOIOS_REQUIRE(exp_avg.extent[0] == size && exp_avg_sq.extent[0] == size &&
                    gradient.extent[0] == size && grad_scale.extent[0] == 1,
                "parameter has ", size, ", exp_avg ", exp_avg.extent[0], ", exp_avg_sq ",
                exp_avg_sq.extent[0], ", gradient ", gradient.extent[0], ", grad_scale ",
                grad_scale.extent[0]);
  const Update update{
      .parameter = parameter,
      .exp_avg = exp_avg,
      .exp_avg_sq = exp_avg_sq,
      .gradient = gradient,
      .grad_scale = grad_scale,
      .one_minus_beta1 = static_cast<float>(1 - step.beta1),
      .beta2 = static_cast<float>(step.beta2),
      .one_minus_beta2 = static_cast<float>(1 - step.beta2),
      .eps = static_cast<float>(step.eps),
      .coupled_decay = static_cast<float>(step.decoupled ? 0 : step.weight_decay),
      .kept = static_cast<float>(step.decoupled ? 1 - step.lr * step.weight_decay : 1),
      .step_size = static_cast<float>(step.lr / step.bias_correction1),
      .root_correction = static_cast<float>(1 / std::sqrt(step.bias_correction2)),
  };
  detail::for_each_element<float>(s, "adam_update", size,
                                  detail::allows_packs(parameter, exp_avg, exp_avg_sq, gradient),
                                  update);
}

}  // namespace koios
