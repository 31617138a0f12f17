// The named model sizes of torchtitan's Llama 2, and the rule for the width of the feed-forward.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace koios {

struct ModelFlavor {
  std::string_view name;
  std::int64_t dim;
  std::int64_t n_layers;
  std::int64_t n_heads;
  std::int64_t n_kv_heads;  // 0: as many as n_heads
  std::int64_t multiple_of;
  double ffn_dim_multiplier;  // 1: none
};

const std::vector<ModelFlavor>& model_flavors();
/// Null where there is no such flavor.
const ModelFlavor* find_flavor(std::string_view name);

/// Two thirds of 4 dim, times the multiplier, each truncated; rounded up to `multiple_of`.
/// ref: Meta's llama/model.py, FeedForward.
std::int64_t ffn_hidden_dim(std::int64_t dim, std::int64_t multiple_of, double multiplier);

}  // namespace koios
