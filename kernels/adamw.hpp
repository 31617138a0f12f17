// Adam (coupled L2: g += wd * p) and AdamW (decoupled: p -= lr * wd * p) over flat shards, one
// launch for all parameters. ref: Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, alg. 2.
#pragma once

#include <cstdint>

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

struct AdamStep {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;
  bool decoupled = true;        // AdamW; false: Adam
  double bias_correction1 = 1;  // 1 - beta1^t, t counted from 1
  double bias_correction2 = 1;  // 1 - beta2^t
};

/// Updates parameter, exp_avg and exp_avg_sq from gradient * grad_scale[0]; PyTorch's order of
/// operations: m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, p -= lr/bc1 * m / (sqrt(v/bc2) + eps).
/// grad_scale: one float in the backend's memory (the clip factor; 0 with a non-finite norm marks
/// a step to be skipped: nothing is changed then).
/// rounded: of the parameters' size, or empty: gets the new parameters, rounded as cast()
/// (kernels/elementwise.hpp) rounds. Where the step is skipped it is not written.
void adam_update(Stream& s, Ref<float, 1> parameter, Ref<float, 1> exp_avg,
                 Ref<float, 1> exp_avg_sq, Ref<const float, 1> gradient,
                 Ref<const float, 1> grad_scale, const AdamStep& step, Ref<bf16, 1> rounded = {});

}  // namespace koios
