// Which attention a shape gets on the cuda backend, and how much workspace that needs. Plain
// arithmetic, so that a plan can be made without a GPU and without cuDNN.
#pragma once

#include <cstdint>

#include "kernels/attention.hpp"
#include "kernels/math_handles.hpp"

namespace koios::detail {

/// Whether this build has cuDNN. A host build says yes: its plans are for another machine.
bool has_cudnn();

/// Not with a mask of documents: cuDNN gets causality alone. Throws UserError where the options ask
/// for cuDNN and it cannot do it.
bool uses_cudnn(const MathOptions& options, const AttentionShape& shape,
                std::int64_t element_bytes);

/// A bound on what cuDNN's backward pass asks for (the forward pass needs less), where it cannot be
/// asked.
std::int64_t attention_cudnn_workspace_bytes(const AttentionShape& shape, bool deterministic);

/// How the fallback cuts its work so that the score matrices stay within a budget.
struct FallbackTiling {
  std::int64_t queries;   // rows of a chunk of queries
  std::int64_t kv_heads;  // key/value heads worked on together
  std::int64_t pitch;     // of a score matrix
  // Offsets of the workspace's parts and its end, in bytes.
  std::int64_t scores, score_gradients, probabilities, dk, dv, total;

  FallbackTiling(const AttentionShape& shape, std::int64_t element_bytes);
};

}  // namespace koios::detail
