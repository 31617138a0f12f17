// koios-tokenize: a dataset becomes a token file ahead of time, by as many ranks as there are.
#include <filesystem>
#include <iostream>
#include <optional>

#include "app/arguments.hpp"
#include "app/deck_agreement.hpp"
#include "app/failure.hpp"
#include "app/start_limit.hpp"
#include "config/expand.hpp"
#include "config/validate.hpp"
#include "core/log.hpp"
#include "data/bad_data_report.hpp"
#include "data/tokenize_corpus.hpp"
#include "runtime/file.hpp"
#include "runtime/mpi_leftovers.hpp"
#include "runtime/signals.hpp"

namespace {

using namespace koios;

constexpr const char* kUsage =
    "koios-tokenize turns the dataset of a deck into a token file, for training/dataset = tokens.\n"
    "\n"
    "  mpirun -np N koios-tokenize [DECK] [section/key=value ...] --output FILE.tokens\n"
    "\n"
    "Of the deck count training/dataset and dataset_path, model/tokenizer_path, data/add_bos,\n"
    "data/add_eos and data/on_bad_data. A job that was stopped goes on from FILE.tokens.parts "
    "when\n"
    "it is started again, with any number of ranks. FILE may begin with ~ and hold $VAR, as paths\n"
    "of a deck do.\n"
    "\n";

struct Arguments {
  DeckArguments deck;
  std::string output;
  bool is_help = false;
};

Arguments parse(int argc, char** argv) {
  Arguments result;
  const auto help = [&] { result.is_help = true; };
  result.deck =
      parse_arguments("koios-tokenize", {argv + 1, argv + argc},
                      {{"--help", help}, {"-h", help}, {"--output", {}, [&](const auto& value) {
                                                          result.output = value;
                                                        }}});
  if (!result.is_help && result.output.empty()) {
    throw CommandLineError("--output FILE.tokens is needed; koios-tokenize --help tells more");
  }
  return result;
}

/// Of the keys that count here alone: others may name files that are yet to be made.
std::vector<DeckError> check(const ParsedDeck& parsed, const DataProblem& data_problem) {
  ParsedDeck ours = parsed;
  ours.config.validation.dataset_path.clear();
  ours.config.checkpoint.initial_load_path.clear();
  ours.config.job.gemm_choices.clear();
  std::vector<DeckError> errors = parsed.errors;
  for (const DeckError& error : check_files(ours, data_problem)) errors.push_back(error);
  const auto require = [&](bool holds, const char* key, const char* message) {
    if (!holds) errors.push_back({parsed.keys.at(key).origin, message});
  };
  const DataConfig& data = parsed.config.data;
  require(data.dataset != DataFormat::tokens, "training/dataset",
          "[training] dataset = tokens: those are tokenized already; name the text");
  require(data.mixture.empty(), "data/mixture",
          "[data] mixture: koios-tokenize reads one dataset; run it for each");
  require(data.add_bos || data.add_eos, "data/add_eos",
          "[data] add_bos and add_eos are both false: nothing would part the documents");
  sort_errors(errors);
  return errors;
}

/// By rank 0's environment, as paths of a deck are.
std::optional<std::string> expand_on_all_ranks(std::filesystem::path output, const MpiEnv& mpi) {
  Problem problem;
  if (mpi.rank() == 0) problem = expand_value(output, process_environment);
  if (!problem.empty()) log::error("--output ", output.string(), ": ", problem);
  if (!mpi.broadcast(problem).empty()) return std::nullopt;
  return mpi.broadcast(output.string());
}

ExitCode tokenize(const Arguments& arguments, StartLimit& limit, const MpiEnv& mpi,
                  Signals& signals) {
  if (mpi.local_rank() == 0) remove_mpi_leftovers(mpi.host());
  const auto deck = parse_on_all_ranks(arguments.deck.deck, arguments.deck.overrides, mpi, check);
  if (!deck) return ExitCode::bad_input;
  const auto output = expand_on_all_ranks(arguments.output, mpi);
  if (!output) return ExitCode::bad_input;
  limit.end();
  const DataConfig& data = deck->config.data;
  const auto tokenizer = load_sentencepiece(deck->config.model.tokenizer_path.string(),
                                            {data.add_bos, data.add_eos}, mpi);
  BadData bad(data.on_bad_data);
  tokenize_corpus({.format = record_format(to_string(data.dataset)).format,
                   .path = data.dataset_path,
                   .marks = {data.add_bos, data.add_eos},
                   .output = *output,
                   .bad_data = &bad,
                   .signals = &signals},
                  *tokenizer, mpi);
  BadDataReport().tell(bad, mpi);
  return ExitCode::done;
}

ExitCode run(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  if (arguments.is_help) {
    std::cout << kUsage << exit_code_table();
    return end_of_output();
  }
  Signals signals;  // what was tokenized stays: until the file is whole, a stop needs no waiting
  StartLimit limit(start_limit(arguments.deck.overrides));
  return on_all_ranks(argc, argv,
                      [&](const MpiEnv& mpi) { return tokenize(arguments, limit, mpi, signals); });
}

}  // namespace

int main(int argc, char** argv) {
  koios::files::hold_standard_descriptors();
  koios::files::report_too_large_files();
  return koios::guard([&] { return run(argc, argv); });
}
