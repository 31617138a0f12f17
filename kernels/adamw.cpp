#include "kernels/adamw.hpp"

#include <cmath>
#include <type_traits>

#include "kernels/detail/launch.hpp"
#include "kernels/detail/random_rounding.hpp"

namespace koios {
namespace {

using detail::load;
using detail::store;

template <class State>
struct Update {
  static constexpr bool kRounds = std::is_same_v<State, bf16>;

  Ref<float, 1> parameter;
  Ref<State, 1> exp_avg, exp_avg_sq;
  Ref<const float, 1> gradient, grad_scale;
  Ref<bf16, 1> rounded;  // or empty
  detail::ShardDraws draws;
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
    if constexpr (kRounds) {
      const auto bits = draws.of(width, i);
      detail::store_image(exp_avg.data + i, detail::round_randomly(m, bits, 0));
      detail::store_image(exp_avg_sq.data + i, detail::round_randomly(v, bits, 16));
    } else {
      store(exp_avg.data + i, m);
      store(exp_avg_sq.data + i, v);
    }
    if (rounded.data != nullptr) store(rounded.data + i, p);
  }
};

template <class State>
Update<State> make_update(Ref<float, 1> parameter, Ref<State, 1> exp_avg, Ref<State, 1> exp_avg_sq,
                          Ref<const float, 1> gradient, Ref<const float, 1> grad_scale,
                          const AdamStep& step, Ref<bf16, 1> rounded, const RoundingDraws& draws) {
  const std::int64_t size = parameter.extent[0];
  KOIOS_REQUIRE(exp_avg.extent[0] == size && exp_avg_sq.extent[0] == size &&
                    gradient.extent[0] == size && grad_scale.extent[0] == 1 &&
                    (rounded.data == nullptr || rounded.extent[0] == size),
                "parameter has ", size, ", exp_avg ", exp_avg.extent[0], ", exp_avg_sq ",
                exp_avg_sq.extent[0], ", gradient ", gradient.extent[0], ", grad_scale ",
                grad_scale.extent[0], ", rounded ", rounded.extent[0]);
  KOIOS_REQUIRE(!Update<State>::kRounds || size == 0 || draws.places.size() > 0,
                "nothing says which elements to draw for");
  return {
      .parameter = parameter,
      .exp_avg = exp_avg,
      .exp_avg_sq = exp_avg_sq,
      .gradient = gradient,
      .grad_scale = grad_scale,
      .rounded = rounded,
      .draws = {draws.key, draws.places.data, narrow<int>(draws.places.size())},
      .one_minus_beta1 = static_cast<float>(1 - step.beta1),
      .beta2 = static_cast<float>(step.beta2),
      .one_minus_beta2 = static_cast<float>(1 - step.beta2),
      .eps = static_cast<float>(step.eps),
      .coupled_decay = static_cast<float>(step.decoupled ? 0 : step.weight_decay),
      .kept = static_cast<float>(step.decoupled ? 1 - step.lr * step.weight_decay : 1),
      .step_size = static_cast<float>(step.lr / step.bias_correction1),
      .root_correction = static_cast<float>(1 / std::sqrt(step.bias_correction2)),
  };
}

template <class State>
bool allows_packs(const Update<State>& u) {
  return detail::allows_packs(u.parameter, u.exp_avg, u.exp_avg_sq, u.gradient) &&
         (u.rounded.data == nullptr || detail::allows_packs(u.rounded));
}

}  // namespace

template <class State>
void adam_update(Stream& s, Ref<float, 1> parameter, Ref<State, 1> exp_avg,
                 Ref<State, 1> exp_avg_sq, Ref<const float, 1> gradient,
                 Ref<const float, 1> grad_scale, const AdamStep& step, Ref<bf16, 1> rounded,
                 const RoundingDraws& draws) {
  const Update<State> update =
      make_update(parameter, exp_avg, exp_avg_sq, gradient, grad_scale, step, rounded, draws);
  detail::for_each_element<float>(s, "adam_update", parameter.extent[0], allows_packs(update),
                                  update);
}

#define KOIOS_INSTANTIATE(State)                                                              \
  template void adam_update<State>(Stream&, Ref<float, 1>, Ref<State, 1>, Ref<State, 1>,      \
                                   Ref<const float, 1>, Ref<const float, 1>, const AdamStep&, \
                                   Ref<bf16, 1>, const RoundingDraws&);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
