// The sizes of torchtitan's flavors, and the rule for the feed-forward.
#include "config/model_flavors.hpp"

#include <gtest/gtest.h>

#include "config/parse_run_config.hpp"
#include "core/error.hpp"

namespace koios {
namespace {

struct Expected {
  std::string flavor;
  std::int64_t dim, n_layers, n_heads, n_kv_heads, ffn_dim;
  std::int64_t parameters;  // with 32,000 tokens and rmsnorm
};

// The parameter counts were printed by torchtitan; debugmodel's with 2 layers was 18,089,216.
const Expected kExpected[] = {
    {"debugmodel", 256, 8, 16, 16, 768, 18'089'216 + 6 * 852'480},
    {"271M", 1024, 16, 8, 8, 2816, 271'090'688},
    {"1B", 2048, 18, 16, 16, 5632, 1'055'991'808},
    {"7B", 4096, 32, 32, 32, 11008, 6'738'415'616},
    {"13B", 5120, 40, 40, 40, 13824, 13'015'864'320},
    {"26B", 5120, 80, 40, 40, 13824, 25'704'043'520},
    {"70B", 8192, 80, 64, 8, 28672, 68'976'648'192},
};

TEST(Flavors, have_their_sizes_and_parameter_counts) {
  ASSERT_EQ(std::size(kExpected), model_flavors().size());
  for (const Expected& e : kExpected) {
    const ModelConfig m = parse_run_config("", "", {"model/flavor=" + e.flavor}).config.model;
    EXPECT_EQ(m.dim, e.dim) << e.flavor;
    EXPECT_EQ(m.n_layers, e.n_layers) << e.flavor;
    EXPECT_EQ(m.n_heads, e.n_heads) << e.flavor;
    EXPECT_EQ(m.n_kv_heads, e.n_kv_heads) << e.flavor;
    EXPECT_EQ(m.ffn_dim, e.ffn_dim) << e.flavor;
    const std::int64_t kv_dim = m.n_kv_heads * m.head_dim();
    const std::int64_t block =
        2 * m.dim * m.dim + 2 * m.dim * kv_dim + 3 * m.dim * m.ffn_dim + 2 * m.dim;
    EXPECT_EQ(2 * 32000 * m.dim + m.n_layers * block + m.dim, e.parameters) << e.flavor;
  }
}

TEST(Flavors, feed_forward_rule_truncates_then_rounds_up) {
  EXPECT_EQ(ffn_hidden_dim(256, 256, 1.0), 768);      // 682 -> 768
  EXPECT_EQ(ffn_hidden_dim(8192, 4096, 1.3), 28672);  // 21845 -> 28398 -> 28672
  EXPECT_EQ(ffn_hidden_dim(96, 1, 1.0), 256);         // exact
  EXPECT_EQ(ffn_hidden_dim(100, 1, 1.5), 399);        // 266.67 -> 266 -> 399
}

TEST(Flavors, each_size_is_a_key_of_its_own) {
  const ModelConfig m =
      parse_run_config("[model]\nflavor = 7B\ndim = 512\nn_heads = 8\n", "x.ini", {}).config.model;
  EXPECT_EQ(m.n_layers, 32);
  EXPECT_EQ(m.n_kv_heads, 8);  // follows n_heads
  EXPECT_EQ(m.ffn_dim, 1536);  // follows dim: 1365 -> 1536
  const ModelConfig grouped =
      parse_run_config("", "", {"model/flavor=70B", "model/n_heads=32", "model/ffn_dim=100"})
          .config.model;
  EXPECT_EQ(grouped.n_kv_heads, 8);
  EXPECT_EQ(grouped.ffn_dim, 100);
}

}  // namespace
}  // namespace koios
