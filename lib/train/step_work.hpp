// What one action of a step asks of a rank: operations and bytes, counted by hand from the model's
// sizes. A prediction divides them by a machine's rates (train/step_time.hpp).
#pragma once

#include "pipeline/actions.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// Of one rank. Bytes are read and written; docs/planning.md says which.
struct RankWork {
  double gemm = 0;         // operations of products in the compute type
  double gemm_narrow = 0;  // of 8-bit ones
  double attention_forward = 0;
  double attention_backward = 0;
  double elementwise_bytes = 0;  // norms, rope, swiglu, cross entropy, embedding
  double cast_bytes = 0;         // weights from masters, gradients that are added up
  double narrow_cast_bytes = 0;  // operands of 8-bit products
  double at_once_bytes = 0;      // of elementwise kernels that also cast to 8 bits
  double optimizer_bytes = 0;
};

/// Of one action; nothing for those that only move data between ranks, but for the casts and sums
/// around it.
RankWork work_of(const Action& action, const TrainingShape& shape, const ShardLayout& layout);

}  // namespace koios
