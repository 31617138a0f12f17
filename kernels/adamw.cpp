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
  Ref<bf16, 1> rounded;  // or empty
  float one_minus_beta1, beta2, one_minus_beta2, eps;
  float coupled_decay;    // g += coupled_decay * p
  float kept;             // p *= kept
  float step_size;        // lr / bias_correction1
  float root_correction;  // 1 / sqrt(bias_correction2)

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t i) const {
    updated(width, i);
  }

  /// The parameters as they are afterwards.
  template <class Width>
  KOKKOS_FUNCTION typename Width::Pack updated(Width width, std::int64_t i) const {
    // All reads are under way before the first is waited for.
    const float scale = grad_scale[0];
    auto p = load(width, parameter.data + i);
    auto m = load(width, exp_avg.data + i);
    auto v = load(width, exp_avg_sq.data + i);
    auto g = load(width, gradient.data + i);
    if (scale == 0) return p;
    g = g * scale + p * coupled_decay;
    m = m + (g - m) * one_minus_beta1;
    v = v * beta2 + g * g * one_minus_beta2;
    p = p * kept - m * step_size / (sqrt(v) * root_correction + eps);
    store(parameter.data + i, p);
    store(exp_avg.data + i, m);
    store(exp_avg_sq.data + i, v);
    if (rounded.data != nullptr) store(rounded.data + i, p);
    return p;
  }
};

/// A piece of the array, range by range.
struct UpdateWithAmax {
  using CudaShapes = detail::Shapes<>;
  static constexpr std::int64_t kPiece = 16384;
  Update update;
  AmaxRanges ranges;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t piece) const {
    std::int64_t begin = piece * kPiece;
    const std::int64_t end = Kokkos::min(begin + kPiece, update.parameter.extent[0]);
    for (std::int64_t range = range_of(begin); begin < end; ++range) {
      const std::int64_t stop = Kokkos::min(end, ranges.begin[range + 1]);
      typename Lanes::Magnitude largest;
      lanes.each(stop - begin, [&](auto width, int, std::int64_t i) {
        largest.add(update.updated(width, begin + i));
      });
      const float found = lanes.magnitude(largest.value());
      if (lanes.rank() == 0) detail::raise_magnitude(ranges.amax.data + range, found);
      begin = stop;
    }
  }

  /// The last range that begins at i or before.
  KOKKOS_FUNCTION std::int64_t range_of(std::int64_t i) const {
    std::int64_t low = 0;
    std::int64_t high = ranges.amax.extent[0];
    while (high - low > 1) {
      const std::int64_t middle = (low + high) / 2;
      (ranges.begin[middle] <= i ? low : high) = middle;
    }
    return low;
  }
};

Update make_update(Ref<float, 1> parameter, Ref<float, 1> exp_avg, Ref<float, 1> exp_avg_sq,
                   Ref<const float, 1> gradient, Ref<const float, 1> grad_scale,
                   const AdamStep& step, Ref<bf16, 1> rounded = {}) {
  const std::int64_t size = parameter.extent[0];
  KOIOS_REQUIRE(exp_avg.extent[0] == size && exp_avg_sq.extent[0] == size &&
                    gradient.extent[0] == size && grad_scale.extent[0] == 1 &&
                    (rounded.data == nullptr || rounded.extent[0] == size),
                "parameter has ", size, ", exp_avg ", exp_avg.extent[0], ", exp_avg_sq ",
                exp_avg_sq.extent[0], ", gradient ", gradient.extent[0], ", grad_scale ",
                grad_scale.extent[0], ", rounded ", rounded.extent[0]);
  return {
      .parameter = parameter,
      .exp_avg = exp_avg,
      .exp_avg_sq = exp_avg_sq,
      .gradient = gradient,
      .grad_scale = grad_scale,
      .rounded = rounded,
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

bool allows_packs(const Update& u) {
  return detail::allows_packs(u.parameter, u.exp_avg, u.exp_avg_sq, u.gradient) &&
         (u.rounded.data == nullptr || detail::allows_packs(u.rounded));
}

}  // namespace

void adam_update(Stream& s, Ref<float, 1> parameter, Ref<float, 1> exp_avg,
                 Ref<float, 1> exp_avg_sq, Ref<const float, 1> gradient,
                 Ref<const float, 1> grad_scale, const AdamStep& step, Ref<bf16, 1> rounded) {
  const Update update =
      make_update(parameter, exp_avg, exp_avg_sq, gradient, grad_scale, step, rounded);
  detail::for_each_element<float>(s, "adam_update", parameter.extent[0], allows_packs(update),
                                  update);
}

void adam_update(Stream& s, Ref<float, 1> parameter, Ref<float, 1> exp_avg,
                 Ref<float, 1> exp_avg_sq, Ref<const float, 1> gradient,
                 Ref<const float, 1> grad_scale, const AdamStep& step, const AmaxRanges& ranges) {
  const Update update = make_update(parameter, exp_avg, exp_avg_sq, gradient, grad_scale, step);
  KOIOS_REQUIRE(ranges.begin.extent[0] == ranges.amax.extent[0] + 1, ranges.begin.extent[0],
                " bounds of ", ranges.amax.extent[0], " ranges");
  const std::int64_t size = parameter.extent[0];
  const std::int64_t pieces = ceil_div(size, UpdateWithAmax::kPiece);
  detail::for_each_row<float>(s, "adam_update_with_amax", pieces, UpdateWithAmax::kPiece,
                              allows_packs(update) && size % 16 == 0,
                              UpdateWithAmax{update, ranges});
}

}  // namespace koios
