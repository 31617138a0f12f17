// A Llama 2 model: its sizes, its parameters with their initial values, and its counts.
// The initialization is torchtitan's of April 2024: reference values in tests/model.
#pragma once

#include <cstdint>
#include <vector>

#include "core/choices.hpp"
#include "shard/layout.hpp"

namespace koios {

constexpr bool has_mean(Norm norm) { return norm == Norm::layernorm || norm == Norm::np_layernorm; }
constexpr bool has_weight(Norm norm) { return norm != Norm::np_layernorm; }

/// What checkpoints and papers call the model; nothing here depends on the mesh or the run.
struct ModelSpec {
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

  std::int64_t head_dim() const { return dim / n_heads; }  // E
};

/// Positions of a block's parameters in its unit. The order puts wq|wk|wv and w1|w3 side by side,
/// and the norms, which np_layernorm has not, last.
enum BlockParameter { kWq, kWk, kWv, kWo, kW1, kW3, kW2, kAttentionNorm, kFfnNorm };
/// The linear layers of a block: parameters that are one product, and share a scale in FP8.
enum BlockLinear { kQkvLinear, kOutLinear, kGateUpLinear, kDownLinear };
inline constexpr int kBlockLinears = 4;
/// Positions in the head's unit.
enum HeadParameter { kOutput, kFinalNorm };

/// Which blocks' linear layers are in FP8, and how.
struct Fp8Policy {
  Fp8Recipe recipe = Fp8Recipe::none;
  std::vector<int> skip_blocks;
  bool fast_backward = false;  // sums of the backward pass as those of the forward pass
  Fp8ScalesOf scales = Fp8ScalesOf::current;

  bool is_on() const { return recipe != Fp8Recipe::none; }
  Fp8Recipe of_block(std::int64_t layer) const;
};

/// The model as a list of units: the embedding, the blocks, the head with the final norm. Matrices
/// of layers in FP8 have scale groups.
std::vector<UnitSpec> model_units(const ModelSpec& model, const Fp8Policy& fp8 = {});

std::int64_t parameter_count(const ModelSpec& model);

}  // namespace koios
