#include "config/model_flavors.hpp"

#include "core/integers.hpp"

namespace koios {

const std::vector<ModelFlavor>& model_flavors() {
  static const std::vector<ModelFlavor> flavors = {
      // name, dim, n_layers, n_heads, n_kv_heads, multiple_of, ffn_dim_multiplier
      {"debugmodel", 256, 8, 16, 0, 256, 1.0}, {"271M", 1024, 16, 8, 0, 256, 1.0},
      {"1B", 2048, 18, 16, 0, 256, 1.0},       {"7B", 4096, 32, 32, 0, 256, 1.0},
      {"13B", 5120, 40, 40, 0, 256, 1.0},      {"26B", 5120, 80, 40, 0, 256, 1.0},
      {"70B", 8192, 80, 64, 8, 4096, 1.3},
  };
  return flavors;
}

const ModelFlavor* find_flavor(std::string_view name) {
  for (const ModelFlavor& flavor : model_flavors()) {
    if (flavor.name == name) return &flavor;
  }
  return nullptr;
}

std::int64_t ffn_hidden_dim(std::int64_t dim, std::int64_t multiple_of, double multiplier) {
  const std::int64_t two_thirds = 2 * (4 * dim) / 3;
  const auto scaled = static_cast<std::int64_t>(multiplier * static_cast<double>(two_thirds));
  return round_up(scaled, multiple_of);
}

}  // namespace koios
