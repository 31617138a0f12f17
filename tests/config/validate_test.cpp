// Rules over several keys, and files that must be there.
#include "config/validate.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "config/named_data.hpp"
#include "core/error.hpp"

namespace koios {
namespace {

std::string rules_of(std::string_view deck, int ranks = 1) {
  return to_string(check_rules(parse_run_config(deck, "x.ini", {}), ranks));
}

TEST(Rules, the_defaults_are_well) {
  for (const int ranks : {1, 2, 3, 7, 84}) EXPECT_EQ(rules_of("", ranks), "") << ranks;
}

TEST(Rules, sizes_divide) {
  EXPECT_EQ(rules_of("[model]\nn_heads = 12\n"),
            "error: x.ini:2: [model] dim = 256 is not a multiple of n_heads = 12\n");
  EXPECT_EQ(rules_of("[model]\ndim = 48\n"),
            "error: x.ini:2: [model] dim / n_heads = 3 is odd; rotary embedding turns pairs\n");
  EXPECT_EQ(rules_of("[model]\nn_heads = 8\nn_kv_heads = 3\n"),
            "error: x.ini:3: [model] n_heads = 8 is not a multiple of n_kv_heads = 3\n");
  EXPECT_EQ(rules_of("[model]\nffn_dim_multiplier = 0.0001\n"),
            "error: x.ini:2: [model] ffn_dim_multiplier = 0.0001 leaves no width for the "
            "feed-forward\n");
  EXPECT_EQ(rules_of("[model]\ndim = 512\nn_heads = 2\n"), "");
  EXPECT_EQ(
      rules_of("[model]\ndim = 516\nn_heads = 2\nn_kv_heads = 2\n"),
      "error: x.ini:3: [model] dim / n_heads = 258: attention does heads of at most 256; take "
      "more heads\n");
}

TEST(Rules, fp8_needs_all_rows) {
  EXPECT_EQ(rules_of("[training]\nfp8_linear = dynamic\n"), "");
  EXPECT_EQ(rules_of("[training]\nfp8_linear = dynamic\n[parallel]\nasync_tp = true\n"),
            "error: x.ini:2: [training] fp8_linear = tensorwise needs all rows before it can scale "
            "them: set [parallel] async_tp = false\n");
}

TEST(Rules, fp8_fast_backward_wants_sums_that_can_be_fast) {
  const std::string fast = "[training]\nfp8_fast_backward = true\nfp8_linear = ";
  EXPECT_EQ(rules_of(fast + "rowwise\n"), "");
  EXPECT_EQ(rules_of(fast + "block\n"),
            "error: x.ini:2: [training] fp8_fast_backward = true: there is nothing to sum so with "
            "fp8_linear = block; set it to tensorwise or rowwise\n");
}

TEST(Rules, fp8_scales_of_the_step_before_are_those_of_tensors) {
  const std::string previous = "[training]\nfp8_scales = previous\nfp8_linear = ";
  EXPECT_EQ(rules_of(previous + "tensorwise\n"), "");
  const std::string refused =
      "error: x.ini:2: [training] fp8_scales = previous is for fp8_linear = tensorwise, which has "
      "one scale a tensor; fp8_linear is ";
  EXPECT_EQ(rules_of(previous + "rowwise\n"), refused + "rowwise\n");
  EXPECT_EQ(rules_of(previous + "\n"), refused + "empty\n");
}

TEST(Rules, fp8_block_reads_stacks_without_gaps) {
  const auto refusal = [](const std::string& rows, const std::string& ranks) {
    return cat("error: x.ini:2: [training] fp8_linear = block: the ", rows,
               " wide, must divide by the ", ranks,
               " that share them, and have a multiple of 128 elements; choose another mesh or "
               "size, or rowwise\n");
  };
  const std::string block = "[training]\nfp8_linear = block\n";
  for (const int ranks : {1, 2, 8}) EXPECT_EQ(rules_of(block, ranks), "") << ranks;
  EXPECT_EQ(rules_of(block + "[model]\nffn_dim = 96\n", 64),
            refusal("96 rows of w1, 256", "64 ranks"));
  const std::string narrow = "[model]\ndim = 48\nn_heads = 4\nffn_dim = 96\n";
  EXPECT_EQ(rules_of(block + narrow + "n_kv_heads = 4\n", 2), "");
  EXPECT_EQ(rules_of(block + narrow + "n_kv_heads = 1\n", 1),
            refusal("12 rows of wk, 48", "1 rank"));
  // All rows lie together: a rank's own may end anywhere.
  EXPECT_EQ(rules_of(block + "tensor_parallel_degree = 2\n" + narrow + "n_kv_heads = 4\n", 4), "");
}

TEST(Rules, a_deterministic_run_takes_no_timed_choices) {
  const std::string choices = "[job]\ngemm_choices = other/gemm_choices.txt\n";
  EXPECT_EQ(rules_of(choices), "");
  EXPECT_EQ(rules_of(choices + "deterministic = true\n"),
            "error: x.ini:2: [job] gemm_choices: these algorithms were timed, and a deterministic "
            "run takes none that were; leave it empty\n");
}

TEST(Rules, fp8_skips_blocks_that_are_there) {
  const std::string eight = "[model]\nn_layers = 8\n[training]\nfp8_linear = rowwise\n";
  EXPECT_EQ(rules_of(eight + "fp8_skip_blocks = 0, 7\n"), "");
  EXPECT_EQ(
      rules_of(eight + "fp8_skip_blocks = 0, 8\n"),
      "error: x.ini:5: [training] fp8_skip_blocks: there is no block 8: they are counted from "
      "0 to n_layers - 1 = 7\n");
}

TEST(Rules, recomputation_by_blocks_recomputes_some) {
  const std::string four = "[model]\nn_layers = 4\n[activation_checkpoint]\n";
  EXPECT_EQ(rules_of(four + "selective_ac_option = 4\n"), "");
  EXPECT_EQ(
      rules_of(four + "selective_ac_option = 5\n"),
      "error: x.ini:4: [activation_checkpoint] selective_ac_option = 5 recomputes none of the "
      "model's 4 blocks; set at most that, or mode = none\n");
  EXPECT_EQ(rules_of(four + "mode = full\nselective_ac_option = 5\n"), "");
  EXPECT_EQ(rules_of("[model]\nn_layers = 1\n"), "");  // the default of 2 stays as it is
}

TEST(Rules, schedules_fit) {
  EXPECT_EQ(rules_of("[lr_scheduler]\ntype = wsd\n"),
            "error: x.ini:2: [lr_scheduler] type = wsd needs decay_steps, the length of its final "
            "decay\n");
  EXPECT_EQ(rules_of("[lr_scheduler]\ndecay_steps = 9\n"),
            "error: x.ini:2: [lr_scheduler] decay_steps = 9 is for type = wsd only\n");
  EXPECT_EQ(rules_of("[optimizer]\nbeta2 = 1\n"),
            "error: x.ini:2: [optimizer] beta2 = 1: must be below 1\n");
}

// A few steps of a deck that is made for many are tried all the time.
TEST(Doubts, a_schedule_longer_than_the_run_is_no_error) {
  const auto doubts_of = [](std::string_view deck) {
    EXPECT_EQ(rules_of(deck), "");
    return to_string(find_doubts(parse_run_config(deck, "x.ini", {})));
  };
  EXPECT_EQ(doubts_of(""), "");
  EXPECT_EQ(doubts_of("[training]\nsteps = 10\n"),
            "error: x.ini:2: [training] warmup_steps = 200 is not below steps = 10: the learning "
            "rate never reaches optimizer/lr\n");
  EXPECT_EQ(doubts_of("[lr_scheduler]\ntype = wsd\ndecay_steps = 9900\n"),
            "error: x.ini:3: [lr_scheduler] decay_steps = 9900 and warmup_steps = 200 together "
            "exceed steps = 10000: the learning rate falls before it has reached optimizer/lr\n");
  const std::string few = "[training]\nsteps = 9\nwarmup_steps = 1\n[profiling]\nrun_profiler = ";
  EXPECT_EQ(doubts_of(few + "false\n"), "");
  EXPECT_EQ(doubts_of(few + "true\nprofile_freq = 9\n"), "");
  EXPECT_EQ(doubts_of(few + "true\n"),
            "error: x.ini:5: [profiling] profile_freq = 10: of steps = 9 none is recorded\n");
}

// The kernels count packs of 16 bytes in 32 bits: 11008 / 8 a token here.
TEST(Rules, a_micro_batch_is_no_more_than_the_kernels_count) {
  const std::string model = "[model]\nflavor = 7B\n[training]\nseq_len = 1\nbatch_size = 1048576\n";
  EXPECT_EQ(rules_of(model), "");
  const std::string seven = "[model]\nflavor = 7B\n[training]\nseq_len = 1024\nbatch_size = ";
  EXPECT_EQ(rules_of(seven + "1524\n"), "");
  EXPECT_EQ(rules_of(seven + "1525\n"),
            "error: x.ini:5: [training] batch_size * seq_len = 1561600 is more than the 1560671 "
            "tokens that the kernels take at once with dim = 4096 and ffn_dim = 11008; lower "
            "batch_size and raise gradient_accumulation_steps instead\n");
  EXPECT_NE(rules_of(seven + "900\nmixed_precision_param = float32\n"), "");
}

TEST(Rules, cudnn_masks_documents_of_whole_sequences_in_no_fixed_order) {
  const std::string mask = "[data]\ndocument_mask = true\n";
  const std::string cudnn = "[model]\nattention = cudnn\n" + mask;
  const std::string fixed = "[job]\ndeterministic = true\n";
  const std::string shared = "[training]\ncontext_parallel_degree = 2\n";
  EXPECT_EQ(rules_of(mask + fixed + shared, 2), "");
  EXPECT_EQ(rules_of("[model]\nattention = fallback\n" + mask + fixed + shared, 2), "");
  EXPECT_EQ(rules_of(cudnn), "");
  EXPECT_EQ(rules_of(cudnn + fixed),
            "error: x.ini:2: [model] attention = cudnn is not deterministic with [data] "
            "document_mask = true: choose auto or fallback\n");
  EXPECT_EQ(rules_of(cudnn + shared, 2),
            "error: x.ini:2: [model] attention = cudnn has no [data] document_mask where "
            "context-parallel ranks share sequences: choose auto or fallback\n");
}

TEST(Rules, more_tensor_parallel_than_heads_lists_what_works) {
  EXPECT_EQ(
      rules_of("[training]\ntensor_parallel_degree = 32\n", 32),
      "error: x.ini:2: [training] tensor_parallel_degree = 32 must divide n_heads = 16, "
      "n_kv_heads = 16, ffn_dim = 768 and batch_size * seq_len = 16384; degrees that do: 1, 2, "
      "4, 8, 16\n");
  EXPECT_EQ(rules_of("[model]\nflavor = 70B\n[training]\ntensor_parallel_degree = 16\n", 16),
            "error: x.ini:4: [training] tensor_parallel_degree = 16 must divide n_heads = 64, "
            "n_kv_heads = 8, ffn_dim = 28672 and batch_size * seq_len = 16384; degrees that do: 1, "
            "2, 4, 8\n");
  EXPECT_EQ(rules_of("[training]\ntensor_parallel_degree = 2\n", 2), "");
  EXPECT_EQ(rules_of("[model]\nvocab_size = 32004\n[training]\ntensor_parallel_degree = 8\n", 8),
            "error: x.ini:4: [training] tensor_parallel_degree = 8 must divide n_heads = 16, "
            "n_kv_heads = 16, ffn_dim = 768, vocab_size = 32004 and batch_size * seq_len = 16384; "
            "degrees that do: 1, 2, 4\n");
}

TEST(Rules, degrees_make_up_the_ranks) {
  EXPECT_EQ(
      rules_of("[training]\ndata_parallel_degree = 4\n", 2),
      "error: x.ini:2: [training] data_parallel_degree = 4: pipeline 1 x data 4 x context 1 x "
      "tensor 1 makes 4 ranks, the run has 2; -1 takes what is left\n");
  EXPECT_EQ(rules_of("[training]\ndata_parallel_degree = -1\n[model]\nflavor = 70B\n", 3), "");
  const std::string both =
      rules_of("[training]\ndata_parallel_degree = -1\ntensor_parallel_degree = 32\n", 2);
  EXPECT_NE(
      both.find("error: x.ini:3: [training] 2 ranks cannot be divided by pipeline 1 x context "
                "1 x tensor 32 = 32\n"),
      std::string::npos)
      << both;
}

TEST(Rules, zero_bubble_keeps_activations_and_gradients) {
  const std::string staged = "[training]\npipeline_parallel_degree = 2\n";
  const std::string schedule = "[parallel]\npipeline_schedule = zero_bubble\n";
  const std::string all_kept = "[activation_checkpoint]\nmode = none\n";
  EXPECT_EQ(rules_of(staged + schedule + all_kept, 2), "");
  EXPECT_EQ(rules_of(staged + schedule, 2),
            "error: x.ini:4: [parallel] pipeline_schedule = zero_bubble keeps activations for the "
            "weights' gradients, which come later: set [activation_checkpoint] mode = none, not "
            "selective\n");
  EXPECT_EQ(rules_of(staged + "reduce_every_micro_batch = true\n" + schedule + all_kept, 2),
            "error: x.ini:5: [parallel] pipeline_schedule = zero_bubble sums gradients over the "
            "micro-batches of a step: set [training] reduce_every_micro_batch = auto\n");
}

TEST(Rules, zero_bubble_v_has_two_runs_of_each_stage) {
  const std::string staged = "[training]\npipeline_parallel_degree = 4\n";
  const std::string schedule = "[parallel]\npipeline_schedule = zero_bubble_v\n";
  const std::string all_kept = "[activation_checkpoint]\nmode = none\n";
  EXPECT_EQ(rules_of(staged + schedule + all_kept, 4), "");
  EXPECT_EQ(rules_of(staged + schedule + "pipeline_layers = 1,1,1,1,1,1,1,1\n" + all_kept, 4), "");
  EXPECT_EQ(rules_of(staged + schedule + "pipeline_layers = 2,2,2,2\n" + all_kept, 4),
            "error: x.ini:5: [parallel] pipeline_layers = 2,2,2,2: expected 8 numbers above 0, one "
            "for each run of each stage, that make 8 together; these are 4 that make 8\n");
  EXPECT_EQ(rules_of(staged + schedule + all_kept + "[model]\nn_layers = 7\n", 4),
            "error: x.ini:4: [parallel] pipeline_schedule = zero_bubble_v for 4 stages: the "
            "model's 7 blocks do not give each of 8 one\n");
  EXPECT_EQ(rules_of(staged + schedule, 4),
            "error: x.ini:4: [parallel] pipeline_schedule = zero_bubble_v keeps activations for "
            "the weights' gradients, which come later: set [activation_checkpoint] mode = none, "
            "not selective\n");
}

TEST(Rules, interleaved_stages_have_runs_and_groups_of_micro_batches) {
  const std::string staged = "[training]\npipeline_parallel_degree = 2\n";
  const std::string four = "gradient_accumulation_steps = 4\n";
  const std::string schedule = "[parallel]\npipeline_schedule = interleaved_1f1b\n";
  EXPECT_EQ(rules_of(staged + four + schedule, 2), "");
  EXPECT_EQ(rules_of(staged + four + schedule + "pipeline_layers = 2,2,2,2\n", 2), "");
  EXPECT_EQ(rules_of(staged + four + schedule + "pipeline_layers = 4,4\n", 2),
            "error: x.ini:6: [parallel] pipeline_layers = 4,4: expected 4 numbers above 0, one for "
            "each run of each stage, that make 8 together; these are 2 that make 8\n");
  EXPECT_EQ(rules_of(staged + four + schedule + "pipeline_chunks = 5\n", 2),
            "error: x.ini:6: [parallel] pipeline_chunks = 5 for 2 stages: the model's 8 blocks do "
            "not give each of 10 one\n");
  EXPECT_EQ(
      rules_of(staged + schedule, 2),
      "error: x.ini:4: [parallel] pipeline_schedule = interleaved_1f1b takes micro-batches in "
      "groups of as many as there are stages: [training] gradient_accumulation_steps = 1 is "
      "not a multiple of 2\n");
  EXPECT_EQ(
      rules_of(staged + "[parallel]\npipeline_chunks = 3\n", 2),
      "error: x.ini:4: [parallel] pipeline_chunks is for pipeline_schedule = interleaved_1f1b "
      "only\n");
}

TEST(Rules, an_effective_deck_keeps_them) {
  for (const std::vector<std::string>& overrides :
       {std::vector<std::string>{},
        {"validation/dataset_path=held_out.txt", "validation/interval=7"},
        {"data/mixture=text:a.txt:1, jsonl:b.jsonl:2", "model/n_layers=1"},
        {"model/flavor=70B", "lr_scheduler/type=wsd", "lr_scheduler/decay_steps=100"}}) {
    const ParsedDeck first = parse_run_config("", "x.ini", overrides);
    EXPECT_EQ(to_string(check_rules(first, 2)), "");
    EXPECT_EQ(rules_of(first.effective, 2), "");
  }
}

TEST(Rules, keys_that_would_do_nothing) {
  EXPECT_EQ(rules_of("[validation]\ninterval = 7\n"),
            "error: x.ini:2: [validation] interval does nothing without dataset_path, the held-out "
            "data\n");
  EXPECT_EQ(rules_of("[data]\nmixture = text:a:1\n[training]\ndataset_path = b\n"),
            "error: x.ini:4: [training] dataset_path does nothing beside [data] mixture; remove "
            "one of the two\n");
  EXPECT_EQ(rules_of("[checkpoint]\nresume = required\n"),
            "error: x.ini:2: [checkpoint] resume = required needs folder, where the checkpoints "
            "are\n");
  EXPECT_EQ(rules_of("[checkpoint]\nmodel_weights_only = true\n"),
            "error: x.ini:2: [checkpoint] model_weights_only = true needs folder, where to save "
            "them\n");
  EXPECT_EQ(rules_of("[metrics]\nlog_ranks = 2, 5\n", 2),
            "error: x.ini:2: [metrics] log_ranks: none of these is a rank of this run, 0 ... 1\n");
  EXPECT_EQ(rules_of("[metrics]\nlog_ranks = 1,5\n", 2), "");
  EXPECT_EQ(rules_of("[metrics]\nlog_ranks = all\n", 2), "");
}

TEST(Rules, sizes_can_be_counted) {
  EXPECT_EQ(
      rules_of("[model]\nn_layers = 16384\ndim = 1048576\nffn_dim = 16777216\nn_heads = 8192\n"
               "[training]\nseq_len = 64\n"),
      "error: x.ini:2: [model] n_layers = 16384, dim = 1048576, ffn_dim = 16777216 with "
      "512 tokens at once are more than can be counted\n");
}

TEST(Rules, do_not_rest_on_refused_values) {
  const ParsedDeck parsed =
      parse_run_config("[model]\nn_heads = ten\nn_kv_heads = 3\n", "x.ini", {"training/steps=no"});
  EXPECT_EQ(parsed.errors.size(), 2U);
  EXPECT_EQ(to_string(check_rules(parsed, 1)), "");
}

std::string problem_of(const std::string& path) { return look_for_data(path).problem; }

TEST(Rules, do_not_rest_on_defaults_where_another_value_may_have_been_meant) {
  const auto missing = [](const std::string&) -> std::string { return "is not there"; };
  for (const char* deck :
       {"[data]\nmixture = ,\n", "[training]\ndataset_path = \"a\"\n",
        "[training]\ndataset_pth = a\n", "[validation]\nsteps = 1\ndataset_path = caf\xe9\n",
        "[checkpoint]\nresume = required\nfolder = caf\xe9\n", "version https://git-lfs\n"}) {
    const auto errors = validate(parse_run_config(deck, "x.ini", {}), 1, missing);
    EXPECT_EQ(errors.size(), 1U) << deck << to_string(errors);
  }
  const auto overridden =
      parse_run_config("[training]\ndataset_path = \"a\"\n", "x.ini", {"training/dataset_path=b"});
  EXPECT_NE(to_string(validate(overridden, 1, missing)).find("dataset_path = b: is not there"),
            std::string::npos);
}

class Files : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "koios_files_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    std::filesystem::create_directory(folder_ / "empty");
    std::filesystem::create_directory(folder_ / "full");
    std::ofstream(folder_ / "full/part-0.txt") << "text\n";
    std::ofstream(folder_ / "tokenizer.model") << "model\n";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// The errors with `dataset` and a tokenizer below the folder, its name left out.
  std::string errors_with(const std::string& tokenizer, const std::string& dataset) const {
    const ParsedDeck parsed = parse_run_config(
        "", "x.ini",
        {"model/tokenizer_path=" + at(tokenizer), "training/dataset_path=" + at(dataset)});
    std::string text = to_string(check_files(parsed, problem_of));
    for (auto i = text.find(at("")); i != std::string::npos; i = text.find(at(""))) {
      text.erase(i, at("").size());
    }
    return text;
  }
  std::string at(const std::string& name) const { return folder_.string() + "/" + name; }

  std::filesystem::path folder_;
};

TEST_F(Files, file_folder_or_pattern) {
  for (const char* dataset : {"full/part-0.txt", "full", "full/*.txt"}) {
    EXPECT_EQ(errors_with("tokenizer.model", dataset), "") << dataset;
  }
}

TEST_F(Files, one_process_searches_and_the_others_see_whether_it_is_there) {
  std::ofstream(folder_ / "full/part-1.txt") << "text\n";
  for (const auto& [path, example] :
       {std::pair("full/*.txt", "full/part-0.txt"), std::pair("full", "full"),
        std::pair("full/part-1.txt", "full/part-1.txt")}) {
    EXPECT_EQ(look_for_data(at(path)).example, at(example));
    EXPECT_EQ(example_problem(at(example)), "");
  }
  EXPECT_EQ(example_problem(at("nowhere")), "No such file or directory");
}

TEST_F(Files, what_is_missing_is_named) {
  EXPECT_EQ(errors_with("nowhere.model", "nowhere.txt"),
            "error: command line: [model] tokenizer_path = nowhere.model: No such file or "
            "directory\n"
            "error: command line: [training] dataset_path = nowhere.txt: No such file or "
            "directory\n");
  EXPECT_EQ(
      errors_with("full", "full/*.json"),
      "error: command line: [model] tokenizer_path = full: is a folder, not a file\n"
      "error: command line: [training] dataset_path = full/*.json: no file fits the pattern\n");
  EXPECT_EQ(errors_with("tokenizer.model", "f*"),
            "error: command line: [training] dataset_path = f*: no file fits the pattern, only "
            "folders: name what is in them\n");
  EXPECT_EQ(errors_with("tokenizer.model", "full/part-0.txt/"),
            "error: command line: [training] dataset_path = full/part-0.txt/: Not a directory\n");
  EXPECT_EQ(errors_with("tokenizer.model", "empty"),
            "error: command line: [training] dataset_path = empty: the folder holds no file that "
            "can be read\n");
}

TEST_F(Files, the_gemm_choices_of_another_run_are_there) {
  const auto errors_of = [&](const std::string& name) {
    return to_string(check_files(
        parse_run_config("", "x.ini",
                         {"model/tokenizer_path=" + at("tokenizer.model"),
                          "training/dataset_path=" + at("full"), "job/gemm_choices=" + at(name)}),
        problem_of));
  };
  EXPECT_EQ(errors_of("full/part-0.txt"), "");
  EXPECT_EQ(errors_of("gone.txt"), cat("error: command line: [job] gemm_choices = ", at("gone.txt"),
                                       ": No such file or directory\n"));
}

TEST_F(Files, a_missing_default_names_its_key_and_what_brings_it) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder_);
  const std::string errors = to_string(check_files(parse_run_config("", "x.ini", {}), problem_of));
  std::filesystem::current_path(before);
  EXPECT_EQ(errors,
            "error: default of model/tokenizer_path: [model] tokenizer_path = "
            "build/assets/tokenizer.model: No such file or directory; tools/setup.sh brings it\n"
            "error: default of training/dataset_path: [training] dataset_path = "
            "build/assets/kjv.txt: No such file or directory; tools/setup.sh brings it\n");
}

TEST_F(Files, validate_gives_errors_of_all_kinds_in_order) {
  const ParsedDeck parsed = parse_run_config(
      cat("[training]\nsteps = 10\nsequence_len = 5\n[model]\nn_heads = 12\ntokenizer_path = ",
          at("nowhere"), "\n"),
      "x.ini", {"training/dataset_path=" + at("full"), "training/batch_size=0"});
  EXPECT_EQ(
      to_string(validate(parsed, 1, problem_of)),
      cat("error: x.ini:3: [training] sequence_len is not a key; did you mean seq_len?\n"
          "error: x.ini:5: [model] dim = 256 is not a multiple of n_heads = 12\n"
          "error: x.ini:6: [model] tokenizer_path = ",
          at("nowhere"),
          ": No such file or directory\n"
          "error: command line: [training] batch_size = 0: outside 1 ... 1048576 sequences\n"));
}

}  // namespace
}  // namespace koios
