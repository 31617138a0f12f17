// Global L2 norm of the gradients and the clip factor, left in the backend's memory: nothing waits.
// Every parameter counts once: what the ranks count of their shards is disjoint, padding is zero.
// ref: reference semantics of torch.nn.utils.clip_grad_norm_: g * min(1, max_norm / (norm + 1e-6)).
#pragma once

#include <vector>

#include "comm/communicator.hpp"
#include "core/ref.hpp"
#include "kernels/reduce.hpp"
#include "runtime/arena.hpp"
#include "shard/layout.hpp"

namespace koios {

struct GradNormBuffers {
  Ref<float, 1> partials;
  Ref<float, 1> norm_squared;
  Ref<float, 1> norm;
  Ref<float, 1> scale;  // what the optimizer multiplies gradients with; 0: norm not finite

  explicit GradNormBuffers(Arena& arena);
};

/// counted: ShardLayout::counted(). comm: one all-reduce of a float over `world`, so that it has
/// the same bits on every rank. max_norm <= 0: no clipping. Where this rank's loss_sum is not
/// finite the norm is NaN, on all ranks.
void gradient_norm(Stream& stream, const GradNormBuffers& out, Ref<const float, 1> gradient_shard,
                   const std::vector<Range>& counted, Communicator& world, float max_norm,
                   Ref<const float, 1> loss_sum, Nonfinite nonfinite);

}  // namespace koios
