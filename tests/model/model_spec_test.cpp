// Exact parameter counts of every flavor (V = 32,000), and the initial values of torchtitan.
#include "model/model_spec.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "config/model_flavors.hpp"

namespace koios {
namespace {

ModelSpec shapes_of(std::string_view flavor) {
  const ModelFlavor* f = find_flavor(flavor);
  EXPECT_NE(f, nullptr) << flavor;
  return {.dim = f->dim,
          .n_layers = f->n_layers,
          .n_heads = f->n_heads,
          .n_kv_heads = f->n_kv_heads == 0 ? f->n_heads : f->n_kv_heads,
          .ffn_dim = ffn_hidden_dim(f->dim, f->multiple_of, f->ffn_dim_multiplier),
          .vocab_size = 32000};
}

TEST(ModelSpec, parameter_counts) {
  const std::map<std::string, std::int64_t> counts = {{"271M", 271090688},  {"1B", 1055991808},
                                                      {"7B", 6738415616},   {"13B", 13015864320},
                                                      {"26B", 25704043520}, {"70B", 68976648192}};
  for (const auto& [flavor, count] : counts) {
    EXPECT_EQ(parameter_count(shapes_of(flavor)), count) << flavor;
  }
  ModelSpec debug = shapes_of("debugmodel");
  EXPECT_EQ(debug.n_layers, 8);
  EXPECT_EQ(parameter_count(debug), 23204096);
  debug.n_layers = 2;
  EXPECT_EQ(parameter_count(debug), 18089216);
}

TEST(ModelSpec, initial_values) {
  const ModelSpec m = shapes_of("debugmodel");
  std::map<std::string, InitialValue> initial;
  for (const UnitSpec& unit : model_units(m)) {
    for (const ParameterSpec& p : unit.parameters) initial[p.name] = p.initial;
  }
  EXPECT_EQ(initial.at("tok_embeddings.weight").std, 1);
  EXPECT_EQ(initial.at("layers.3.attention.wq.weight").std, 0.02);
  EXPECT_EQ(initial.at("layers.3.feed_forward.w1.weight").std, 0.02);
  for (const char* name : {"attention.wo", "feed_forward.w2", "feed_forward.w3"}) {
    EXPECT_DOUBLE_EQ(initial.at(std::string("layers.3.") + name + ".weight").std,
                     0.02 / std::sqrt(2.0 * 4));
  }
  EXPECT_EQ(initial.at("layers.0.ffn_norm.weight").mean, 1);
  EXPECT_EQ(initial.at("layers.0.ffn_norm.weight").std, 0);
  EXPECT_DOUBLE_EQ(initial.at("output.weight").std, 1 / std::sqrt(256.0));
  EXPECT_EQ(initial.at("output.weight").cut, 3);
}

}  // namespace
}  // namespace koios
