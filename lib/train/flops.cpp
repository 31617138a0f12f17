#include "train/flops.hpp"

namespace koios {

double flops_per_token(const ModelSpec& m, std::int64_t seq_len) {
  const std::int64_t n = parameter_count(m) - m.vocab_size * m.dim;
  return 6.0 * static_cast<double>(n) + 12.0 * static_cast<double>(m.n_layers) *
                                            static_cast<double>(m.dim) *
                                            static_cast<double>(seq_len);
}

std::optional<double> peak_flops(std::string_view device_name) {
  struct Entry {
    std::string_view part;
    double flops;
  };
  // The first match counts: the particular before the general.
  constexpr Entry kTable[] = {{"H100 NVL", 835e12}, {"H100 PCIe", 756e12}, {"H100", 989e12},
                              {"H200 NVL", 835e12}, {"H200", 989e12},      {"A100", 312e12}};
  for (const Entry& entry : kTable) {
    if (device_name.find(entry.part) != std::string_view::npos) return entry.flops;
  }
  return std::nullopt;
}

}  // namespace koios
