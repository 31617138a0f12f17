// Adam (coupled L2: g += wd * p) and AdamW (decoupled: p -= lr * wd * p) over flat shards, one
// launch for all parameters. ref: Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, alg. 2.
//
// Moments may be kept in bfloat16. They are updated in float32, used for the parameters as they are
// then, and rounded at random, up or down so that the mean is right (bf16::randomly). To nearest
// they would stand still: a step moves v by (1 - beta2) (g^2 - v), and half a unit of bfloat16 is
// between v / 512 and v / 256. With beta2 = 0.999 a v that gets no more gradients loses v / 1000 a
// step, which rounding to nearest gives back for ever; with 0.95 it stops wherever g^2 is within 4
// to 8% of v, on the side from which it came.
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

/// Rows of a parameter in a flat shard, to number its elements as the whole parameter does: row
/// by row. So an element has the same draws on every mesh.
struct ElementPlace {
  std::int64_t begin = 0;    // in the shard: a multiple of kPlaceAlignment
  std::uint64_t stream = 0;  // stream_of(the parameter's name)
  std::int64_t first = 0;    // element of the whole that is at `begin`
  std::int64_t cols = 0;     // of a row here
  std::int64_t pitch = 0;    // of a row of the whole
};
inline constexpr std::int64_t kPlaceAlignment = 16;  // elements: no pack has more

/// Where the rounding of moments gets its draws.
struct RoundingDraws {
  std::uint64_t key = 0;              // key_of_step()
  Ref<const ElementPlace, 1> places;  // of the whole shard, in its order; in the backend's memory
};

/// Updates parameter, exp_avg and exp_avg_sq from gradient * grad_scale[0]; PyTorch's order of
/// operations: m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, p -= lr/bc1 * m / (sqrt(v/bc2) + eps).
/// grad_scale: one float in the backend's memory (the clip factor; 0 with a non-finite norm marks
/// a step to be skipped: nothing is changed then).
/// rounded: of the parameters' size, or empty: gets the new parameters, rounded as cast()
/// (kernels/elementwise.hpp) rounds. Where the step is skipped it is not written.
/// draws: for moments in bf16.
template <class State>  // of the moments: float or bf16
void adam_update(Stream& s, Ref<float, 1> parameter, Ref<State, 1> exp_avg,
                 Ref<State, 1> exp_avg_sq, Ref<const float, 1> gradient,
                 Ref<const float, 1> grad_scale, const AdamStep& step, Ref<bf16, 1> rounded = {},
                 const RoundingDraws& draws = {});

}  // namespace koios
