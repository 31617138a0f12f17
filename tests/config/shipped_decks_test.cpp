// Every deck in input/ parses and keeps the rules, and the large ones keep their values.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "config/validate.hpp"

namespace koios {
namespace {

ParsedDeck shipped(const std::string& name) {
  const std::string path = std::string(KOIOS_SOURCE_DIR) + "/input/" + name;
  return parse_run_config(read_deck_file(path), "input/" + name, {});
}

TEST(ShippedDecks, parse_and_keep_the_rules) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(KOIOS_SOURCE_DIR "/input")) {
    if (entry.path().extension() == ".ini") names.insert(entry.path().filename().string());
  }
  for (const char* expected : {"debian_text.ini", "debug.ini", "llama2_7b.ini",
                               "llama2_7b_128k.ini", "llama2_13b.ini", "llama2_70b.ini"}) {
    EXPECT_TRUE(names.contains(expected)) << expected;
  }
  for (const std::string& name : names) {
    const ParsedDeck parsed = shipped(name);
    EXPECT_EQ(to_string(parsed.errors), "") << name;
    EXPECT_EQ(to_string(check_rules(parsed, 64)), "") << name;
  }
}

// torchtitan's values: batch x sequence, learning rate, steps, warm-up, norm, recomputation.
TEST(ShippedDecks, keep_the_values_of_torchtitan) {
  struct Expected {
    const char* name;
    const char* flavor;
    std::int64_t batch_size, seq_len;
    double lr;
  };
  for (const Expected& e : {Expected{"llama2_7b.ini", "7B", 8, 2048, 3e-4},
                            Expected{"llama2_13b.ini", "13B", 2, 4096, 3e-4},
                            Expected{"llama2_70b.ini", "70B", 16, 4096, 1.5e-4}}) {
    const RunConfig c = shipped(e.name).config;
    EXPECT_EQ(c.model.flavor, e.flavor);
    EXPECT_EQ(c.training.batch_size, e.batch_size) << e.name;
    EXPECT_EQ(c.training.seq_len, e.seq_len) << e.name;
    EXPECT_EQ(c.optimizer.lr, e.lr) << e.name;
    EXPECT_EQ(c.training.steps, 1000) << e.name;
    EXPECT_EQ(c.training.warmup_steps, 200) << e.name;
  }
  EXPECT_EQ(shipped("llama2_7b.ini").config.model.norm_type, Norm::fused_rmsnorm);
  EXPECT_EQ(shipped("llama2_70b.ini").config.model.norm_type, Norm::rmsnorm);
  for (const char* name : {"llama2_7b.ini", "llama2_13b.ini"}) {
    const ActivationCheckpointConfig c = shipped(name).config.activation_checkpoint;
    EXPECT_EQ(c.mode, RecomputeMode::selective) << name;
    EXPECT_EQ(c.selective_ac_option.kind, SelectiveOption::Kind::op) << name;
  }
  EXPECT_EQ(shipped("llama2_70b.ini").config.activation_checkpoint.mode, RecomputeMode::full);
}

}  // namespace
}  // namespace koios
