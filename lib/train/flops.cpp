#include "train/flops.hpp"

#include <fmt/format.h>

#include "core/error.hpp"

namespace koios {

double flops_per_token(const ModelSpec& m, std::int64_t seq_len, AttentionCount count) {
  const std::int64_t n = parameter_count(m) - m.vocab_size * m.dim;
  const double attention = count == AttentionCount::full ? 12.0 : 6.0;
  return 6.0 * static_cast<double>(n) + attention * static_cast<double>(m.n_layers) *
                                            static_cast<double>(m.dim) *
                                            static_cast<double>(seq_len);
}

double head_flops_per_token(const ModelSpec& m) {
  return 6.0 * static_cast<double>(m.vocab_size * m.dim + (has_weight(m.norm) ? m.dim : 0));
}

double block_flops_per_token(const ModelSpec& m, std::int64_t seq_len) {
  const double all = flops_per_token(m, seq_len, AttentionCount::causal);
  return (all - head_flops_per_token(m)) / static_cast<double>(m.n_layers);
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

std::string describe_flops(const ModelSpec& model, std::int64_t seq_len,
                           std::string_view device_name) {
  const auto giga = [&](AttentionCount count) {
    return fmt::format("{:.4g}", flops_per_token(model, seq_len, count) / 1e9);
  };
  const std::optional<double> peak = peak_flops(device_name);
  return cat("operations of a label token: ", giga(AttentionCount::full),
             " GFLOP with full attention (6 N + 12 layers dim seq_len, N without the input "
             "embedding: mfu), ",
             giga(AttentionCount::causal), " with causal (6 layers dim seq_len: mfu_causal); ",
             peak
                 ? cat("mfu is of ", *peak / 1e12, " TFLOP/s, the dense bf16 peak of ", device_name)
                 : cat("mfu n/a: the bf16 peak of ", device_name, " is not known"));
}

}  // namespace koios
