#include "model/activations.hpp"

#include <algorithm>

#include "kernels/rmsnorm.hpp"

namespace koios {
namespace {

constexpr std::string_view kSaved = "activations";
constexpr std::string_view kScratch = "activation scratch";

/// Tokens of one chunk of the head: full logits never exist. 4096 rows keep the GEMM efficient on
/// a GPU (128 row tiles of 32,000 columns); on the host 512 rows stay near the cache.
std::int64_t head_chunk(Backend backend, std::int64_t tokens) {
  const std::int64_t rows = backend == Backend::cuda ? 4096 : 512;
  return std::min(rows, tokens);
}

}  // namespace

AttentionShape attention_shape(const LlamaShapes& m, const MicroBatchShape& batch) {
  return {batch.batch_size, batch.seq_len, m.n_heads, m.n_kv_heads, m.head_dim()};
}

template <class T>
BlockSaved<T>::BlockSaved(Arena& arena, const LlamaShapes& m, const MicroBatchShape& batch) {
  const std::int64_t n = batch.tokens();
  x_ND = arena.take<T>(kSaved, n, m.dim);
  rstd1_N = arena.take<float>(kSaved, n);
  normed1_ND = arena.take<T>(kSaved, n, m.dim);
  qkv_NQ = arena.take<T>(kSaved, n, m.qkv_cols());
  attention_ND = arena.take<T>(kSaved, n, m.dim);
  lse_BHT = arena.take<float>(kSaved, n * m.n_heads);
  mid_ND = arena.take<T>(kSaved, n, m.dim);
  rstd2_N = arena.take<float>(kSaved, n);
  normed2_ND = arena.take<T>(kSaved, n, m.dim);
  gate_up_N2F = arena.take<T>(kSaved, n, 2 * m.ffn_dim);
  activated_NF = arena.take<T>(kSaved, n, m.ffn_dim);
}

template <class T>
LlamaBuffers<T>::LlamaBuffers(Arena& arena, const LlamaShapes& m, const MicroBatchShape& batch,
                              const MathOptions& math) {
  const std::int64_t n = batch.tokens();
  const Backend backend = arena.backend();
  for (std::int64_t layer = 0; layer < m.n_layers; ++layer) block.emplace_back(arena, m, batch);
  x_ND = arena.take<T>(kSaved, n, m.dim);
  rstd_N = arena.take<float>(kSaved, n);
  normed_ND = arena.take<T>(kSaved, n, m.dim);
  loss_N = arena.take<float>(kSaved, n);

  delta_ND = arena.take<T>(kScratch, n, m.dim);
  dx_ND = arena.take<T>(kScratch, n, m.dim);
  d_normed_ND = arena.take<T>(kScratch, n, m.dim);
  d_attention_ND = arena.take<T>(kScratch, n, m.dim);
  d_qkv_NQ = arena.take<T>(kScratch, n, m.qkv_cols());
  d_activated_NF = arena.take<T>(kScratch, n, m.ffn_dim);
  logits_CV = arena.take<T>("logits of one chunk", head_chunk(backend, n), m.vocab_size);
  norm_partial_PD = arena.take<float>(kScratch, rmsnorm_backward_partials(backend), m.dim);
  rope_TE = arena.take<float>(kScratch, batch.seq_len, m.head_dim());
  attention_workspace = arena.take<std::byte>(
      "attention workspace",
      attention_workspace_bytes(backend, math, attention_shape(m, batch), sizeof(T)));
}

template struct BlockSaved<float>;
template struct BlockSaved<bf16>;
template struct LlamaBuffers<float>;
template struct LlamaBuffers<bf16>;

}  // namespace koios
