#include "app/command_line.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/error.hpp"

namespace koios {
namespace {

TEST(CommandLine, deck_and_overrides) {
  const CommandLine line = parse_command_line({"a.ini", "training/steps=3", "job.seed=1"});
  EXPECT_EQ(line.task, Task::train);
  EXPECT_EQ(line.deck, "a.ini");
  EXPECT_EQ(line.overrides, (std::vector<std::string>{"training/steps=3", "job.seed=1"}));
  EXPECT_TRUE(parse_command_line({}).deck.empty());
}

TEST(CommandLine, dry_run_for_another_mesh) {
  const CommandLine line = parse_command_line({"--dry-run", "--ranks", "64", "--backend", "cuda"});
  EXPECT_EQ(line.task, Task::dry_run);
  EXPECT_EQ(line.ranks, 64);
  EXPECT_EQ(line.backend, Backend::cuda);
  const CommandLine same = parse_command_line({"--dry-run", "--ranks=64", "--backend=cuda"});
  EXPECT_EQ(same.ranks, 64);
  EXPECT_EQ(same.backend, Backend::cuda);
}

TEST(CommandLine, a_deck_on_standard_input_and_a_kind_of_gpu) {
  EXPECT_EQ(parse_command_line({"-"}).deck, "-");
  EXPECT_EQ(parse_command_line({"--dry-run", "--gpu", "h100"}).gpu->name, "h100");
  EXPECT_EQ(parse_command_line({"--dry-run", "--gpu=40"}).gpu->bytes, std::int64_t{40} << 30);
  EXPECT_THROW(parse_command_line({"--dry-run", "--gpu", "b200x"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--gpu", "h100", "--backend=host"}), UserError);
  EXPECT_THROW(parse_command_line({"--gpu", "h100"}), UserError);
}

TEST(CommandLine, what_a_prediction_takes) {
  const CommandLine line = parse_command_line({"--suggest", "--ranks=512", "--gpu", "h200",
                                               "--node=4", "--between-nodes", "25", "--tokens=2e12",
                                               "--sequences=1024", "--rates=a.json"});
  EXPECT_EQ(line.task, Task::suggest);
  EXPECT_EQ(line.prediction.ranks_of_node, 4);
  EXPECT_EQ(line.prediction.between_nodes_gbs, 25);
  EXPECT_EQ(line.prediction.tokens, 2e12);
  EXPECT_EQ(line.prediction.sequences, 1024);
  EXPECT_EQ(line.prediction.rates_file, "a.json");
  EXPECT_THROW(parse_command_line({"--suggest", "--ranks=8"}), UserError);
  EXPECT_THROW(parse_command_line({"--suggest", "--gpu=h100"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--tokens=1e9"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--gpu=h100", "--tokens=0"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--gpu=h100", "--sequences=8"}), UserError);
  EXPECT_THROW(parse_command_line({"a.ini", "--rates=a.json"}), UserError);
}

TEST(GpuFit, says_what_would_make_it_fit_by_the_plan) {
  RunConfig config;
  config.training.batch_size = 8;
  config.activation_checkpoint.mode = RecomputeMode::none;
  const auto contains = [](const std::vector<std::string>& list, const std::string& text) {
    return std::find(list.begin(), list.end(), text) != list.end();
  };
  const auto plan = [&](const std::vector<std::string>& more, int ranks) {
    double activations = contains(more, "training/batch_size=4") ? 40 : 80;
    if (contains(more, "activation_checkpoint/mode=full")) activations = 8;
    const double state = contains(more, "optimizer/state_dtype=bfloat16") ? 48 : 64;
    return std::optional(static_cast<std::int64_t>((state / ranks + activations) * (1 << 30)));
  };
  const GpuMemory gpu = *gpu_memory("h100");
  EXPECT_FALSE(report_fit(gpu, config, 8, plan).fits);
  EXPECT_EQ(report_fit(gpu, config, 2, plan).lines,
            (std::vector<std::string>{
                "does not fit h100: plan 112.000 GiB and 2.000 GiB for CUDA, NCCL and the like, "
                "of 79.100 GiB",
                "what would make it fit, by the plan; each line alone:",
                "  activation_checkpoint/mode=full (plan 40.000 GiB)",
                "  training/batch_size=4 training/gradient_accumulation_steps=2 (plan 72.000 "
                "GiB)"}));
  EXPECT_TRUE(report_fit(*gpu_memory("120"), config, 2, plan).fits);
  EXPECT_EQ(report_fit(*gpu_memory("18"), config, 8, plan).lines.back(),
            "  activation_checkpoint/mode=full (plan 16.000 GiB)");
  EXPECT_EQ(report_fit(*gpu_memory("16"), config, 8, plan).lines.back(),
            "  optimizer/state_dtype=bfloat16 activation_checkpoint/mode=full (plan 14.000 GiB)");
  EXPECT_EQ(report_fit(*gpu_memory("12"), config, 8, plan).lines.back(),
            "  activation_checkpoint/mode=full --ranks 32 (plan 10.000 GiB)");
}

TEST(CommandLine, a_time_is_a_key_of_the_deck) {
  EXPECT_EQ(parse_command_line({"a.ini", "-t", "1-12:00:00"}).overrides,
            std::vector<std::string>{"job/walltime=1-12:00:00"});
  EXPECT_THROW(parse_command_line({"a.ini", "-t"}), UserError);
}

TEST(CommandLine, a_self_test_takes_the_decks_mesh) {
  EXPECT_EQ(parse_command_line({"a.ini", "--self-test"}).task, Task::self_test);
  EXPECT_THROW(parse_command_line({"--self-test", "--ranks", "4"}), UserError);
}

TEST(CommandLine, help_is_given_whatever_else_is_asked) {
  EXPECT_EQ(parse_command_line({"--dry-run", "--help"}).task, Task::help);
  EXPECT_EQ(parse_command_line({"-h", "--self-test"}).task, Task::help);
}

TEST(CommandLine, mistakes_are_refused) {
  EXPECT_THROW(parse_command_line({"--drun"}), UserError);
  EXPECT_THROW(parse_command_line({"a.ini", "b.ini"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--ranks"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--ranks", "4x"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--ranks", "0"}), UserError);
  EXPECT_EQ(parse_command_line({"--dry-run", "--ranks", "1048576"}).ranks, 1048576);
  EXPECT_THROW(parse_command_line({"--dry-run", "--ranks", "1048577"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--backend", "gpu"}), UserError);
  EXPECT_THROW(parse_command_line({"a.ini", "--ranks", "4"}), UserError);
  EXPECT_THROW(parse_command_line({"--dry-run", "--self-test"}), UserError);
  EXPECT_THROW(parse_command_line({"--suggest", "--dry-run", "--ranks", "4"}), UserError);
  EXPECT_THROW(parse_command_line({""}), UserError);  // koios "$DECK", and DECK is not set
}

}  // namespace
}  // namespace koios
