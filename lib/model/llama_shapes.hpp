// Every size of a Llama 2 model, its parameters with their initial values, and its counts.
// The initialization is torchtitan's of April 2024: reference values in tests/model.
#pragma once

#include <cstdint>
#include <vector>

#include "shard/layout.hpp"

namespace koios {

enum class Norm {
  rmsnorm,        // rounded before and after the weight
  fused_rmsnorm,  // rounded once
  layernorm,      // with a weight, without bias
  np_layernorm    // without parameters
};
constexpr bool has_mean(Norm norm) { return norm == Norm::layernorm || norm == Norm::np_layernorm; }
constexpr bool has_weight(Norm norm) { return norm != Norm::np_layernorm; }

struct LlamaShapes {
  std::int64_t dim = 0;  // D
  std::int64_t n_layers = 0;
  std::int64_t n_heads = 0;     // H
  std::int64_t n_kv_heads = 0;  // K
  std::int64_t ffn_dim = 0;     // F
  std::int64_t vocab_size = 0;  // V
  Norm norm = Norm::fused_rmsnorm;
  float norm_eps = 1e-5F;
  double rope_theta = 10000;
  bool depth_init = true;
  /// Ranks that share each layer (tensor parallelism). The sizes above are the whole model's.
  std::int64_t tp = 1;
  bool loss_parallel = true;  // with tp > 1: logits stay where they were computed
  bool async_tp = false;      // with tp > 1: collectives are exchanges beside the products

  std::int64_t head_dim() const { return dim / n_heads; }  // E

  // One rank's share.
  std::int64_t heads_here() const { return n_heads / tp; }
  std::int64_t kv_heads_here() const { return n_kv_heads / tp; }
  std::int64_t q_cols() const { return heads_here() * head_dim(); }
  std::int64_t kv_cols() const { return kv_heads_here() * head_dim(); }
  std::int64_t qkv_cols() const { return q_cols() + 2 * kv_cols(); }
  std::int64_t ffn_here() const { return ffn_dim / tp; }
  std::int64_t vocab_here() const { return vocab_size / tp; }
};

/// Positions of a block's parameters in its unit. The order puts wq|wk|wv and w1|w3 side by side,
/// and the norms, which np_layernorm has not, last.
enum BlockParameter { kWq, kWk, kWv, kWo, kW1, kW3, kW2, kAttentionNorm, kFfnNorm };
/// Positions in the head's unit.
enum HeadParameter { kOutput, kFinalNorm };

/// Unit 0 is the embedding, units 1..n_layers the blocks, the last one final norm and head.
std::vector<UnitSpec> llama_units(const LlamaShapes& shapes);

std::int64_t parameter_count(const LlamaShapes& shapes);

}  // namespace koios
