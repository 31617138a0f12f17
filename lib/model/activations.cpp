#include "model/activations.hpp"

#include <algorithm>

#include "kernels/rmsnorm.hpp"

namespace koios {
namespace {

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
BlockSaved<T>::BlockSaved(Arena& arena, const LlamaShapes& m, const MicroBatchShape& batch,
                          Recompute level, const BlockSaved* shared)
    : recompute(level) {
  using enum Recompute;
  const std::int64_t n = batch.tokens();
  // again: the least level that computes the tensor again.
  const auto take = [&]<class U, int R>(Recompute again, Ref<U, R> BlockSaved::*tensor,
                                        auto... extents) {
    if (level >= again && shared != nullptr) {
      this->*tensor = shared->*tensor;
    } else {
      this->*tensor = arena.take<U>(level >= again ? kRecomputed : kActivations, extents...);
    }
  };
  x_ND = arena.take<T>(kActivations, n, m.dim);
  take(op, &BlockSaved::rstd1_N, n);
  take(op, &BlockSaved::normed1_ND, n, m.dim);
  if (level == op_half) {
    const std::int64_t k_cols = m.n_kv_heads * m.head_dim();
    take(full, &BlockSaved::qv_NQ, n, m.qkv_cols() - k_cols);
    take(op_half, &BlockSaved::k_NK, n, k_cols);
  } else {
    take(full, &BlockSaved::qkv_NQ, n, m.qkv_cols());
  }
  take(full, &BlockSaved::attention_ND, n, m.dim);
  take(full, &BlockSaved::lse_BHT, n * m.n_heads);
  take(op_half, &BlockSaved::mid_ND, n, m.dim);
  take(op, &BlockSaved::rstd2_N, n);
  take(op, &BlockSaved::normed2_ND, n, m.dim);
  if (level == op_half) {
    take(full, &BlockSaved::gate_NF, n, m.ffn_dim);
    take(op_half, &BlockSaved::gate_up_N2F, n, 2 * m.ffn_dim);
  } else {
    take(full, &BlockSaved::gate_up_N2F, n, 2 * m.ffn_dim);
  }
  take(op, &BlockSaved::activated_NF, n, m.ffn_dim);
}

template <class T>
LlamaBuffers<T>::LlamaBuffers(Arena& arena, const LlamaShapes& m, const MicroBatchShape& batch,
                              const MathOptions& math, const RecomputePolicy& recompute) {
  const std::int64_t n = batch.tokens();
  const Backend backend = arena.backend();
  block.reserve(static_cast<std::size_t>(m.n_layers));
  const BlockSaved<T>* shared = nullptr;
  for (std::int64_t layer = 0; layer < m.n_layers; ++layer) {
    const Recompute level = recompute.of_block(layer);
    block.emplace_back(arena, m, batch, level, shared);
    if (level != Recompute::none) shared = &block.back();
  }
  x_ND = arena.take<T>(kActivations, n, m.dim);
  rstd_N = arena.take<float>(kActivations, n);
  normed_ND = arena.take<T>(kActivations, n, m.dim);
  loss_N = arena.take<float>(kActivations, n);

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
