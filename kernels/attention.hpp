// Causal grouped-query attention, forward and backward, without the [T, T] matrix in memory.
//   host      our own blocked kernel (softmax statistics saved, probabilities recomputed)
//   cuda      cuDNN's fused attention in bf16, document by document where they are kept apart; a
//             fallback of GEMM + softmax for float32 and for where cuDNN is missing
// ref: Dao 2023, FlashAttention-2, algorithms 1 and 2.
// Legend: B sequences, T tokens of a sequence, H query heads, K key/value heads, E head size;
// q, k, v, o are [B*T, heads*E] with a row pitch (slices of one GEMM's output). Where queries are
// the last part of a longer sequence, k and v have rows for all of it.
#pragma once

#include <cstdint>
#include <string>

#include "core/dtype.hpp"
#include "core/ref.hpp"
#include "kernels/math_handles.hpp"
#include "runtime/stream.hpp"

namespace koios {

struct AttentionShape {
  std::int64_t batch = 0;      // B
  std::int64_t seq_len = 0;    // T
  std::int64_t heads = 0;      // H
  std::int64_t kv_heads = 0;   // K, divides H
  std::int64_t head_dim = 0;   // E, even, at most 256
  bool document_mask = false;  // a query sees the keys of its own document only
  /// Keys before the first query's own, in each sequence: query i sees the keys up to
  /// earlier_keys + i (a causal mask aligned at the bottom right).
  std::int64_t earlier_keys = 0;
  /// Calls see parts of sequences, whose documents may begin or end in another part.
  bool sequence_parts = false;

  /// Keys of a sequence.
  std::int64_t kv_len() const { return earlier_keys + seq_len; }
};

/// The documents that sequences are packed of, which a mask keeps apart.
struct Documents {
  /// (flattened) Where in its sequence each query's document begins: query i sees the keys
  /// start[i] to earlier_keys + i. It does not decrease within a sequence and is at most the
  /// query's own position.
  Ref<const std::int32_t, 1> start_BT{};
  /// The row at which each document begins, a sequence's first row among them, and then the number
  /// of rows. Empty where queries come after earlier keys or calls see parts of sequences.
  Ref<const std::int32_t, 1> begin_D1{};

  std::int64_t count() const { return begin_D1.size() - 1; }
};

/// Bytes of scratch that forward and backward may use, for the memory plan. Known without a GPU, as
/// a bound where cuDNN works and has not been asked. element_bytes: size of the tensors' type.
std::int64_t attention_workspace_bytes(Backend backend, const MathOptions& options,
                                       const AttentionShape& shape, std::int64_t element_bytes);

/// Of the rows in which these lie, and their gradients.
struct AttentionPitches {
  std::int64_t q = 0, kv = 0, o = 0;
};
/// Builds cuDNN's plans for both passes on this rank's GPU, in some tenths of a second, and returns
/// what they want: for MathOptions::attention_workspace_bytes, the largest of all ranks'. 0 where
/// another attention than cuDNN's runs. UserError where cuDNN refuses the shape.
std::int64_t ask_attention_workspace_bytes(const MathOptions& options, const AttentionShape& shape,
                                           DType dtype, const AttentionPitches& pitches);

/// Why the fallback runs on the cuda backend where the options leave that to Koios; empty where it
/// does not, or where they ask for one.
std::string why_fallback_attention(const MathOptions& options, const AttentionShape& shape,
                                   DType dtype);

/// o = softmax(q k^T / sqrt(E), causal) v; lse_BHT (flattened) = log of each softmax's denominator
/// including its maximum, saved for the backward pass; cuDNN keeps them as BTH where it goes
/// document by document. documents: with shape.document_mask, else empty.
template <class T>
void attention_forward(MathHandles& math, Stream& s, const AttentionShape& shape, Ref<T, 2> o,
                       Ref<float, 1> lse_BHT, Ref<const T, 2> q, Ref<const T, 2> k,
                       Ref<const T, 2> v, Ref<std::byte, 1> workspace,
                       const Documents& documents = {});

/// dq, dk, dv (overwritten) from do, with o and lse of the forward pass.
template <class T>
void attention_backward(MathHandles& math, Stream& s, const AttentionShape& shape, Ref<T, 2> dq,
                        Ref<T, 2> dk, Ref<T, 2> dv, Ref<const T, 2> d_o, Ref<const T, 2> o,
                        Ref<const float, 1> lse_BHT, Ref<const T, 2> q, Ref<const T, 2> k,
                        Ref<const T, 2> v, Ref<std::byte, 1> workspace,
                        const Documents& documents = {});

}  // namespace koios
