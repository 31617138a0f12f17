#include "model/model_spec.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "model/tp_plan.hpp"

namespace koios {
namespace {

/// torchtitan truncates at absolute +-2, a hundred standard deviations: no cut at all in effect.
constexpr double kNoCut = 100;
constexpr double kStd = 0.02;

InitialValue normal(double std, double cut = kNoCut) { return {0, std, cut}; }

ParameterSpec matrix(std::string name, std::int64_t rows, std::int64_t cols, InitialValue initial) {
  const Split split = tensor_split(name);
  return {std::move(name), rows, cols, false, initial, split, -1};
}

ParameterSpec norm_weight(std::string name, std::int64_t size) {
  const Split split = tensor_split(name);
  return {std::move(name), size, 1, true, {1, 0, 0}, split, -1};
}

UnitSpec block_unit(const ModelSpec& m, std::int64_t layer, bool fp8) {
  const std::string prefix = cat("layers.", layer, ".");
  const std::int64_t q_rows = m.n_heads * m.head_dim();
  const std::int64_t kv_rows = m.n_kv_heads * m.head_dim();
  // Outputs into the residual stream shrink with depth (depth_init), or all with the layer count.
  const double depth =
      m.depth_init ? static_cast<double>(layer + 1) : static_cast<double>(m.n_layers);
  const InitialValue inner = normal(kStd);
  const InitialValue outer = normal(kStd / std::sqrt(2 * depth));
  UnitSpec unit{prefix.substr(0, prefix.size() - 1), UnitRole::block, {}};
  const auto add = [&](BlockLinear layer, const std::string& name, std::int64_t rows,
                       std::int64_t cols, const InitialValue& initial) {
    unit.parameters.push_back(matrix(prefix + name, rows, cols, initial));
    if (fp8) unit.parameters.back().scale_group = layer;
  };
  add(kQkvLinear, "attention.wq.weight", q_rows, m.dim, inner);
  add(kQkvLinear, "attention.wk.weight", kv_rows, m.dim, inner);
  add(kQkvLinear, "attention.wv.weight", kv_rows, m.dim, inner);
  add(kOutLinear, "attention.wo.weight", m.dim, q_rows, outer);
  add(kGateUpLinear, "feed_forward.w1.weight", m.ffn_dim, m.dim, inner);
  add(kGateUpLinear, "feed_forward.w3.weight", m.ffn_dim, m.dim, outer);
  add(kDownLinear, "feed_forward.w2.weight", m.dim, m.ffn_dim, outer);
  if (has_weight(m.norm)) {
    unit.parameters.push_back(norm_weight(prefix + "attention_norm.weight", m.dim));
    unit.parameters.push_back(norm_weight(prefix + "ffn_norm.weight", m.dim));
  }
  return unit;
}

}  // namespace

Fp8Recipe Fp8Policy::of_block(std::int64_t layer) const {
  const bool is_skipped =
      std::find(skip_blocks.begin(), skip_blocks.end(), layer) != skip_blocks.end();
  return is_skipped ? Fp8Recipe::none : recipe;
}

std::vector<UnitSpec> model_units(const ModelSpec& m, const Fp8Policy& fp8) {
  std::vector<UnitSpec> units;
  units.push_back({"embedding",
                   UnitRole::embedding,
                   {matrix("tok_embeddings.weight", m.vocab_size, m.dim, normal(1))}});
  for (std::int64_t layer = 0; layer < m.n_layers; ++layer) {
    units.push_back(block_unit(m, layer, fp8.of_block(layer) != Fp8Recipe::none));
  }
  const double head_std = 1 / std::sqrt(static_cast<double>(m.dim));
  units.push_back({"head",
                   UnitRole::head,
                   {matrix("output.weight", m.vocab_size, m.dim, normal(head_std, 3))}});
  if (has_weight(m.norm)) units.back().parameters.push_back(norm_weight("norm.weight", m.dim));
  return units;
}

std::int64_t parameter_count(const ModelSpec& m) {
  std::int64_t count = 0;
  for (const UnitSpec& unit : model_units(m)) {
    for (const ParameterSpec& p : unit.parameters) count += p.size();
  }
  return count;
}

}  // namespace koios
