// A deck and a command line to a RunConfig: names, values, origins, and the texts made of them.
#include "config/parse_run_config.hpp"

#include <gtest/gtest.h>

#include "config/run_schema.hpp"
#include "core/error.hpp"

namespace koios {
namespace {

std::string errors_of(std::string_view deck, const std::vector<std::string>& overrides = {}) {
  return to_string(parse_run_config(deck, "x.ini", overrides).errors);
}

/// The message of the only error that `section/key=value` on the command line makes.
std::string message_of(const std::string& override) {
  const ParsedDeck parsed = parse_run_config("", "x.ini", {override});
  return parsed.errors.size() == 1 ? parsed.errors[0].message
                                   : cat(parsed.errors.size(), " errors");
}

TEST(RunConfig, an_empty_deck_gives_the_defaults_of_torchtitan) {
  const ParsedDeck parsed = parse_run_config("", "none", {});
  EXPECT_EQ(to_string(parsed.errors), "");
  const RunConfig& c = parsed.config;
  EXPECT_EQ(c.job.dump_folder, "./outputs");
  EXPECT_EQ(c.job.description, "default job");
  EXPECT_EQ(c.metrics.log_freq, 10);
  EXPECT_EQ(c.model.flavor, "debugmodel");
  EXPECT_EQ(c.model.norm_type, Norm::rmsnorm);
  EXPECT_EQ(c.optimizer.name, OptimizerName::adamw);
  EXPECT_EQ(c.optimizer.lr, 8e-4);
  EXPECT_EQ(c.optimizer.beta1, 0.9);
  EXPECT_EQ(c.optimizer.beta2, 0.95);
  EXPECT_EQ(c.optimizer.eps, 1e-8);
  EXPECT_EQ(c.optimizer.weight_decay, 0.1);
  EXPECT_EQ(c.optimizer.state_dtype, DType::float32);
  EXPECT_EQ(c.training.batch_size, 8);
  EXPECT_EQ(c.training.seq_len, 2048);
  EXPECT_EQ(c.training.warmup_steps, 200);
  EXPECT_EQ(c.training.max_norm, 1.0);
  EXPECT_EQ(c.training.steps, 10000);
  EXPECT_EQ(c.parallel.data_parallel, -1);
  EXPECT_TRUE(c.parallel.enable_loss_parallel);
  EXPECT_EQ(c.comm.init_timeout_seconds, 300);
  EXPECT_EQ(c.comm.train_timeout_seconds, 100);
  EXPECT_EQ(c.comm.trace_buf_size, 20000);
}

TEST(RunConfig, the_command_line_goes_before_the_deck) {
  const ParsedDeck parsed = parse_run_config("[training]\nsteps = 10\nseq_len = 64\n", "x.ini",
                                             {"training/steps=20", "data.shuffle=off"});
  EXPECT_EQ(to_string(parsed.errors), "");
  EXPECT_EQ(parsed.config.training.steps, 20);
  EXPECT_EQ(parsed.config.training.seq_len, 64);
  EXPECT_FALSE(parsed.config.data.shuffle);
  EXPECT_EQ(parsed.keys.at("training/steps").origin.text, "command line");
  EXPECT_EQ(parsed.keys.at("training/seq_len").origin.text, "x.ini:3");
  EXPECT_EQ(parsed.keys.at("training/batch_size").origin.text, "default");
  EXPECT_EQ(parsed.keys.at("model/dim").origin.text, "flavor debugmodel");
}

TEST(RunConfig, errors_beyond_fifty_are_counted) {
  std::string deck = "[training]\n";
  for (int i = 0; i < 60; ++i) deck += cat("steps_", i, " = 1\nwords\n");
  const ParsedDeck parsed = parse_run_config(deck, "x.ini", {});
  ASSERT_EQ(parsed.errors.size(), 51U);
  EXPECT_EQ(to_string(parsed.errors.back()), "x.ini: 70 more errors");
  EXPECT_EQ(parsed.errors[49].origin.text, "x.ini:51");
}

TEST(RunConfig, an_override_mends_a_value_of_the_deck) {
  EXPECT_NE(errors_of("[training]\ndataset = c5\n"), "");
  EXPECT_EQ(errors_of("[training]\ndataset = c5\n", {"training/dataset=text"}), "");
}

TEST(RunConfig, unknown_names_come_with_the_nearest) {
  EXPECT_EQ(message_of("training/sequence_len=5"),
            "[training] sequence_len is not a key; did you mean seq_len?");
  EXPECT_EQ(message_of("metrics/seq_len=5"),
            "[metrics] seq_len is not a key; seq_len is a key of [training]");
  EXPECT_EQ(message_of("job/name=x"),
            "[job] name is not a key; name is a key of [model], [optimizer]");
  EXPECT_EQ(message_of("comm/weight_decai=5"),
            "[comm] weight_decai is not a key; did you mean weight_decay of [optimizer]?");
  EXPECT_EQ(message_of("model/qqqqqq=5"),
            "[model] qqqqqq is not a key (koios --help-deck lists them)");
  EXPECT_EQ(message_of("trainng/steps=5"), "[trainng] is not a section; did you mean [training]?");
  EXPECT_EQ(message_of("zz/steps=5"), "[zz] is not a section (koios --help-deck lists them)");
}

TEST(RunConfig, an_unknown_section_is_one_error) {
  EXPECT_EQ(errors_of("[optimiser]\nlr = 1\nbeta1 = 2\n[optimiser]\neps = 3\n"),
            "error: x.ini:1: [optimiser] is not a section; did you mean [optimizer]?\n");
}

TEST(RunConfig, values_are_judged_by_type_and_range) {
  EXPECT_EQ(message_of("training/seq_len=12x"),
            "[training] seq_len = 12x: not a whole number, \"x\" follows the number");
  EXPECT_EQ(message_of("training/seq_len=0"),
            "[training] seq_len = 0: outside 1 ... 1048576 tokens");
  EXPECT_EQ(message_of("training/seq_len=99999999999999999999"),
            "[training] seq_len = 99999999999999999999: outside 1 ... 1048576 tokens");
  EXPECT_EQ(message_of("training/data_parallel_degree=-2"),
            "[training] data_parallel_degree = -2: outside -1 ... 1048576 ranks");
  EXPECT_EQ(message_of("training/seq_len="), "[training] seq_len has no value");
  EXPECT_EQ(message_of("training/dataset_path="), "[training] dataset_path has no value");
  EXPECT_EQ(message_of("optimizer/lr=fast"), "[optimizer] lr = fast: not a number");
  EXPECT_EQ(message_of("optimizer/beta1=1.5"), "[optimizer] beta1 = 1.5: outside 0 ... 1");
  EXPECT_EQ(message_of("optimizer/name=SGD"), "[optimizer] name = SGD: not one of Adam, AdamW");
  EXPECT_EQ(message_of("model/flavor=8B"),
            "[model] flavor = 8B: not one of debugmodel, 271M, 1B, 7B, 13B, 26B, 70B");
  EXPECT_EQ(message_of("job/deterministic=maybe"),
            "[job] deterministic = maybe: not one of true, false, yes, no, on, off, 1, 0");
  EXPECT_EQ(message_of("activation_checkpoint/mode=some"),
            "[activation_checkpoint] mode = some: not one of none, selective, full");
  for (const char* option : {"0", "-2", "ops", "2 blocks"}) {
    EXPECT_EQ(message_of(cat("activation_checkpoint/selective_ac_option=", option)),
              cat("[activation_checkpoint] selective_ac_option = ", option,
                  ": not op, op_half or a number of blocks above 0"));
  }
  EXPECT_EQ(message_of("metrics/log_ranks=0,x"),
            "[metrics] log_ranks = 0,x: not a list of whole numbers such as 0,3,5, nor all");
  EXPECT_EQ(errors_of("", {"job/description=", "checkpoint/folder=", "training/fp8_linear="}), "");
}

TEST(RunConfig, fp8_has_two_names) {
  EXPECT_EQ(errors_of("", {"training/fp8_linear=dynamic"}), "");
  EXPECT_EQ(errors_of("", {"training/fp8_linear=tensorwise"}), "");
}

TEST(RunConfig, retired_keys_say_what_replaces_them) {
  EXPECT_EQ(
      message_of("training/compile=true"),
      "[training] compile is not a key of Koios: all kernels are compiled when Koios is built; "
      "remove it");
  EXPECT_EQ(message_of("metrics/enable_tensorboard=true"),
            "[metrics] enable_tensorboard is not a key of Koios: metrics.jsonl is always written, "
            "tools/metrics_to_tensorboard.py makes event files of it");
  EXPECT_EQ(message_of("job/config_file=x.toml"),
            "[job] config_file is not a key of Koios: the deck is the first argument, koios DECK "
            "[section/key=value]");
}

TEST(RunConfig, all_errors_come_at_once_in_order) {
  EXPECT_EQ(errors_of("[training]\n"
                      "sequence_len = 5\n"
                      "steps = ten\n"
                      "steps = 10\n"
                      "[optimiser]\n"
                      "lr = 1\n"
                      "[profiling]\n"
                      "profile_freq = 0\n"
                      "words\n"
                      "[metrics]\n"
                      "log_freq = 0\n",
                      {"model/dim=x", "model.n_heads", "job/sed=1"}),
            "error: x.ini:2: [training] sequence_len is not a key; did you mean seq_len?\n"
            "error: x.ini:3: [training] steps = ten: not a whole number\n"
            "error: x.ini:4: [training] steps is given twice, first at x.ini:3\n"
            "error: x.ini:5: [optimiser] is not a section; did you mean [optimizer]?\n"
            "error: x.ini:8: [profiling] profile_freq = 0: outside 1 ... 1000000 steps\n"
            "error: x.ini:9: \"words\" is not \"key = value\"\n"
            "error: x.ini:11: [metrics] log_freq = 0: outside 1 ... 1000000000 steps\n"
            "error: command line: [model] dim = x: not a whole number\n"
            "error: command line: \"model.n_heads\" is not section/key=value\n"
            "error: command line: [job] sed is not a key; did you mean seed?\n");
}

TEST(EffectiveDeck, reads_back_to_the_same_run) {
  const ParsedDeck first = parse_run_config(
      "[model]\nflavor = 70B\nnorm_eps = 3.3333333333333335e-06\n[metrics]\nlog_ranks = 0, 8\n"
      "[job]\ndescription =\n[data]\nshuffle = off\n",
      "x.ini",
      {"training/dataset_path=data/*.jsonl", "training/dataset=jsonl", "lr_scheduler/type=wsd",
       "lr_scheduler/decay_steps=100", "optimizer/lr=1.7e-4"});
  EXPECT_EQ(to_string(first.errors), "");
  const ParsedDeck second = parse_run_config(first.effective, "effective.ini", {});
  EXPECT_EQ(to_string(second.errors), "");
  EXPECT_EQ(first.config, second.config);
  EXPECT_NE(first.config, parse_run_config("", "", {}).config);
}

TEST(EffectiveDeck, says_where_each_value_comes_from) {
  const std::string text =
      parse_run_config("[training]\n\nseq_len = 64 # short\n", "input/x.ini", {"optimizer/lr=1e-3"})
          .effective;
  for (const char* line : {"\n[training]\n", "\nseq_len = 64  # input/x.ini:3\n",
                           "\nlr = 0.001  # command line\n", "\nsteps = 10000  # default\n",
                           "\ndim = 256  # flavor debugmodel\n", "\nfp8_linear =  # default\n",
                           "\nffn_dim = 768  # dim, ffn_dim_multiplier and multiple_of\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
}

TEST(HelpDeck, has_every_key_with_its_meaning) {
  const std::string text = help_deck();
  RunConfig config;
  const DeckSchema schema = make_run_schema(config);
  for (const auto& option : schema.options()) {
    EXPECT_NE(text.find(cat("| `", option->key(), "` | ")), std::string::npos) << option->key();
    EXPECT_NE(text.find(cat("### [", option->section(), "]\n")), std::string::npos);
    EXPECT_FALSE(option->help().empty()) << option->key();
  }
  for (const AbsentKey& key : absent_keys()) {
    EXPECT_NE(text.find(cat("`", key.section, "/", key.key, "`")), std::string::npos) << key.key;
    EXPECT_EQ(schema.find(key.section, key.key), nullptr) << key.key;
  }
  EXPECT_NE(text.find("| `seq_len` | whole number, 1 ... 1048576 | tokens | `2048` | length of a "
                      "sequence |\n"),
            std::string::npos)
      << text;
}

TEST(HelpDeck, every_key_is_declared_once) {
  RunConfig config;
  const DeckSchema schema = make_run_schema(config);
  for (const auto& option : schema.options()) {
    EXPECT_EQ(schema.find(option->section(), option->key()), option.get()) << option->key();
  }
}

}  // namespace
}  // namespace koios
