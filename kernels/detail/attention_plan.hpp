// Which attention a shape gets on the cuda backend, and how much workspace that needs. Plain
// arithmetic, so that a plan can be made without a GPU and without cuDNN.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/attention.hpp"
#include "kernels/math_handles.hpp"

namespace koios::detail {

/// Whether this build has cuDNN. A host build says yes: its plans are for another machine.
bool has_cudnn();

/// Why cuDNN, or Koios' use of it, cannot do it, to follow "but"; empty where it can.
std::string cudnn_obstacle(const MathOptions& options, const AttentionShape& shape,
                           std::int64_t element_bytes);

/// Throws UserError where the options ask for cuDNN and it cannot do it.
bool uses_cudnn(const MathOptions& options, const AttentionShape& shape,
                std::int64_t element_bytes);

/// A bound on what cuDNN's backward pass asks for (the forward pass needs less), where it cannot be
/// asked.
std::int64_t attention_cudnn_workspace_bytes(const AttentionShape& shape, bool deterministic);

/// What cuDNN's attention of variable lengths reads beside the tensors: the length of each document
/// and, for a tensor's row pitch, the element at which each begins, the end of the last behind
/// them. A plan is for a number of documents; those that a batch has not are empty ones at the end.
struct DocumentTables {
  static constexpr std::int64_t kMostPitches = 9;  // q, k, v, o, do, dq, dk, dv, statistics
  /// Beyond it the fallback runs: most of what such a plan launches would find nothing to do.
  static constexpr std::int64_t kMostDocuments = 1024;

  std::int64_t documents;  // of the plan
  // Of the tables of the pitches: where the first lies, how far they lie apart, and the end, in
  // bytes.
  std::int64_t offsets, step, total;

  /// of: the plan for so many documents.
  explicit DocumentTables(std::int64_t of);
  /// The largest one that a micro-batch of this shape may want.
  static DocumentTables largest(const AttentionShape& shape);
};

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
