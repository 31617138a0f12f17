#include "model/activations.hpp"

#include <algorithm>

#include "core/integers.hpp"
#include "kernels/rmsnorm.hpp"

namespace koios {
namespace {

constexpr std::string_view kScratch = "activation scratch";
constexpr std::string_view kLogits = "logits of one chunk";

}  // namespace

// Full logits never exist. 4096 rows keep the GEMM efficient on a GPU (128 row tiles of 32,000
// columns); on the host 512 rows stay near the cache.
std::int64_t head_chunk(Backend backend, std::int64_t tokens) {
  const std::int64_t rows = backend == Backend::cuda ? 4096 : 512;
  return std::min(rows, tokens);
}

AttentionShape attention_shape(const LlamaShapes& m, const MicroBatchShape& batch) {
  return {batch.batch_size,  batch.seq_len, m.heads_here(),
          m.kv_heads_here(), m.head_dim(),  batch.document_mask};
}

template <class T>
BlockSaved<T>::BlockSaved(Arena& arena, const LlamaShapes& m, const MicroBatchShape& batch,
                          Recompute level, const BlockSaved* shared)
    : recompute(level) {
  using enum Recompute;
  const std::int64_t n = batch.tokens();
  const std::int64_t s = div_exact(n, m.tp);
  // again: the least level that computes the tensor again.
  const auto take = [&]<class U, int R>(Recompute again, Ref<U, R> BlockSaved::*tensor,
                                        auto... extents) {
    if (level >= again && shared != nullptr) {
      this->*tensor = shared->*tensor;
    } else {
      this->*tensor = arena.take<U>(level >= again ? kRecomputed : kActivations, extents...);
    }
  };
  x_SD = arena.take<T>(kActivations, s, m.dim);
  take(op, &BlockSaved::rstd1_S, s);
  if (has_mean(m.norm)) take(op, &BlockSaved::mean1_S, s);
  take(op, &BlockSaved::normed1_SD, s, m.dim);
  if (level == op_half) {
    take(full, &BlockSaved::qv_NQ, n, m.qkv_cols() - m.kv_cols());
    take(op_half, &BlockSaved::k_NK, n, m.kv_cols());
  } else {
    take(full, &BlockSaved::qkv_NQ, n, m.qkv_cols());
  }
  take(full, &BlockSaved::attention_NA, n, m.q_cols());
  take(full, &BlockSaved::lse_BHT, n * m.heads_here());
  take(op_half, &BlockSaved::mid_SD, s, m.dim);
  take(op, &BlockSaved::rstd2_S, s);
  if (has_mean(m.norm)) take(op, &BlockSaved::mean2_S, s);
  take(op, &BlockSaved::normed2_SD, s, m.dim);
  if (level == op_half) {
    take(full, &BlockSaved::gate_NF, n, m.ffn_here());
    take(op_half, &BlockSaved::gate_up_N2F, n, 2 * m.ffn_here());
  } else {
    take(full, &BlockSaved::gate_up_N2F, n, 2 * m.ffn_here());
  }
  take(op, &BlockSaved::activated_NF, n, m.ffn_here());
}

template <class T>
LlamaBuffers<T>::LlamaBuffers(Arena& arena, const LlamaShapes& m, const MicroBatchShape& batch,
                              const MathOptions& math, const RecomputePolicy& recompute)
    : tp(arena, m.tp, batch.tokens(), m.dim, m.async_tp) {
  const std::int64_t n = batch.tokens();
  const std::int64_t s = div_exact(n, m.tp);
  const Backend backend = arena.backend();
  block.reserve(static_cast<std::size_t>(m.n_layers));
  const BlockSaved<T>* shared = nullptr;
  for (std::int64_t layer = 0; layer < m.n_layers; ++layer) {
    const Recompute level = recompute.of_block(layer);
    block.emplace_back(arena, m, batch, level, shared);
    if (level != Recompute::none) shared = &block.back();
  }
  x_SD = arena.take<T>(kActivations, s, m.dim);
  rstd_S = arena.take<float>(kActivations, s);
  if (has_mean(m.norm)) mean_S = arena.take<float>(kActivations, s);
  normed_SD = arena.take<T>(kActivations, s, m.dim);
  loss_N = arena.take<float>(kActivations, n);

  delta_SD = arena.take<T>(kScratch, s, m.dim);
  dx_SD = arena.take<T>(kScratch, s, m.dim);
  d_normed_SD = arena.take<T>(kScratch, s, m.dim);
  d_attention_NA = arena.take<T>(kScratch, n, m.q_cols());
  d_qkv_NQ = arena.take<T>(kScratch, n, m.qkv_cols());
  d_activated_NF = arena.take<T>(kScratch, n, m.ffn_here());
  const std::int64_t chunk = head_chunk(backend, n);
  const bool shared_rows = m.tp > 1 && m.loss_parallel;
  logits_CV = arena.take<T>(kLogits, chunk, shared_rows ? m.vocab_here() : m.vocab_size);
  if (m.tp > 1 && !shared_rows) logit_parts = arena.take<T>(kLogits, chunk * m.vocab_size);
  if (shared_rows) softmax_4C = arena.take<float>(kLogits, 4 * chunk);
  const std::int64_t parts = has_weight(m.norm) ? norm_backward_partials(backend) : 0;
  norm_partial_PD = arena.take<float>(kScratch, parts, m.dim);
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
