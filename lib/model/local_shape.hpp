// What one rank computes of the model and of a micro-batch: the sizes that depend on the mesh and
// on the run. What belongs to the model itself is in model_spec.hpp.
#pragma once

#include <cstdint>

#include "core/integers.hpp"
#include "kernels/attention.hpp"
#include "model/model_spec.hpp"

namespace koios {

/// How the ranks of a tensor-parallel group share each layer.
struct TensorParallelOptions {
  std::int64_t ranks = 1;
  bool loss_parallel = true;  // logits stay where they were computed
  bool asynchronous = false;  // collectives are exchanges beside the products
};

struct MicroBatchShape {
  std::int64_t batch_size = 0;     // B
  std::int64_t seq_len = 0;        // of whole sequences
  bool document_mask = false;      // attention stays inside of documents
  std::int64_t context_ranks = 1;  // that share each sequence (core/sequence_part.hpp)

  /// Of each sequence on one rank: T.
  std::int64_t tokens_of_sequence() const { return div_exact(seq_len, context_ranks); }
  /// Of one rank.
  std::int64_t tokens() const { return batch_size * tokens_of_sequence(); }
};

/// What context-parallel ranks exchange for attention.
struct ContextShape {
  std::int64_t ranks = 1;
  std::int64_t sequences = 0;
  std::int64_t seq_len = 0;   // of whole sequences
  std::int64_t kv_heads = 0;  // whose keys and values are gathered together
};

struct LocalShape {
  std::int64_t tokens = 0;    // N = B T
  std::int64_t rows = 0;      // S = N / tp: the residual stream is sharded along the sequence
  std::int64_t heads = 0;     // H
  std::int64_t kv_heads = 0;  // K
  std::int64_t q_cols = 0;    // A = H E
  std::int64_t kv_cols = 0;   // K E
  std::int64_t ffn = 0;       // F
  std::int64_t vocab = 0;     // V
  ContextShape context;
  AttentionShape attention;  // of one call: with context-parallel ranks, of the longest

  LocalShape(const ModelSpec& model, const TensorParallelOptions& tensor,
             const MicroBatchShape& batch);

  std::int64_t qkv_cols() const { return q_cols + 2 * kv_cols; }  // Q
  AttentionPitches attention_pitches() const;
};

}  // namespace koios
