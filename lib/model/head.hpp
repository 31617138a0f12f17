// Final norm, output projection and loss, in chunks of tokens so that full logits never exist.
// The chunk's loss and gradients are formed while its logits are at hand: one pass, both ways.
#pragma once

#include <cstdint>

#include "model/block.hpp"

namespace koios {

/// In: the residual stream as previous_SD + delta_SD. Out: scratch.loss_N (each token's loss),
/// dx_SD = loss_scale * gradient of the residual stream, and the gradients of norm.weight and
/// output.weight. dx_amax: raised to the largest |dx|; or empty.
template <class T>
void head_forward_backward(StageContext<T>& c, const HeadSaved<T>& v, Ref<T, 2> dx_SD,
                           Ref<const T, 2> previous_SD, Ref<const T, 2> delta_SD,
                           Ref<const std::int32_t, 1> label_N, float loss_scale,
                           const UnitView<const T>& w, const UnitView<float>& g, Write write,
                           Ref<float, 1> dx_amax = {});

/// Only scratch.loss_N.
template <class T>
void head_forward(StageContext<T>& c, const HeadSaved<T>& v, Ref<const T, 2> previous_SD,
                  Ref<const T, 2> delta_SD, Ref<const std::int32_t, 1> label_N,
                  const UnitView<const T>& w);

}  // namespace koios
