#include "model/local_shape.hpp"

#include "core/integers.hpp"

namespace koios {
namespace {

/// So many that their keys and values keep within a budget, and that the gather of some can hide
/// behind the attention of others.
std::int64_t kv_heads_together(std::int64_t all, std::int64_t elements_of_head) {
  constexpr std::int64_t kMostElements = std::int64_t{1} << 26;
  for (std::int64_t rounds = 2; rounds < all; ++rounds) {
    if (all % rounds == 0 && all / rounds * elements_of_head <= kMostElements) return all / rounds;
  }
  return 1;
}

}  // namespace

LocalShape::LocalShape(const ModelSpec& model, const TensorParallelOptions& tensor,
                       const MicroBatchShape& batch)
    : tokens(batch.tokens()),
      rows(div_exact(tokens, tensor.ranks)),
      heads(div_exact(model.n_heads, tensor.ranks)),
      kv_heads(div_exact(model.n_kv_heads, tensor.ranks)),
      q_cols(heads * model.head_dim()),
      kv_cols(kv_heads * model.head_dim()),
      ffn(div_exact(model.ffn_dim, tensor.ranks)),
      vocab(div_exact(model.vocab_size, tensor.ranks)),
      context{batch.context_ranks, batch.batch_size, batch.seq_len, kv_heads},
      attention{batch.batch_size, batch.seq_len,    heads,
                kv_heads,         model.head_dim(), batch.document_mask} {
  if (context.ranks == 1) return;
  context.kv_heads =
      kv_heads_together(kv_heads, 2 * model.head_dim() * batch.batch_size * batch.seq_len);
  // Call by call, since the sequences of a chunk do not lie one after the other; the last chunk
  // sees all keys.
  attention.batch = 1;
  attention.seq_len = div_exact(batch.seq_len, 2 * context.ranks);
  attention.earlier_keys = batch.seq_len - attention.seq_len;
  attention.sequence_parts = true;
  attention.kv_heads = context.kv_heads;
  attention.heads = heads / kv_heads * context.kv_heads;
}

AttentionPitches LocalShape::attention_pitches() const {
  const std::int64_t gathered = 2 * attention.kv_heads * attention.head_dim;
  return {qkv_cols(), context.ranks == 1 ? qkv_cols() : gathered, q_cols};
}

}  // namespace koios
