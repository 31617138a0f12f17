// Final norm, output projection and loss, in chunks of tokens so that full logits never exist.
// The chunk's loss and gradients are formed while its logits are at hand: one pass, both ways.
#pragma once

#include <cstdint>

#include "model/block.hpp"

namespace koios {

/// In: the residual stream as previous_SD + buffers.delta_SD. Out: buffers.loss_N (each token's
/// loss), buffers.dx_SD = loss_scale * gradient of the residual stream, and the gradients of
/// norm.weight and output.weight.
template <class T>
void head_forward_backward(BlockContext<T>& c, Ref<const T, 2> previous_SD,
                           Ref<const std::int32_t, 1> label_N, float loss_scale,
                           const UnitView<const T>& weights, const UnitView<float>& gradients,
                           Write write);

/// Only buffers.loss_N.
template <class T>
void head_forward(BlockContext<T>& c, Ref<const T, 2> previous_SD,
                  Ref<const std::int32_t, 1> label_N, const UnitView<const T>& weights);

}  // namespace koios
