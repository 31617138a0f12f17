#include "app/planner.hpp"

#include <cstdlib>
#include <iostream>

#include "app/deck_agreement.hpp"
#include "app/deck_setup.hpp"
#include "app/failure.hpp"
#include "config/named_data.hpp"
#include "config/validate.hpp"
#include "core/log.hpp"
#include "core/printable.hpp"
#include "data/tokenizer.hpp"
#include "runtime/launch_check.hpp"
#include "train/start_report.hpp"
#include "train/training_memory.hpp"

namespace koios {
namespace {

/// A plan for GPUs needs none, and no build for them.
Backend planned_backend(const CommandLine& line, BackendChoice choice) {
  if (line.gpu) return Backend::cuda;
  if (line.backend) return *line.backend;
  return choice == BackendChoice::cuda ? Backend::cuda : choose_backend(choice);
}

void print_comments(const std::vector<std::string>& lines) {
  for (const std::string& text : lines) std::cout << "# " << printable(text) << "\n";
}

/// Of the whole run, as --tokens or the deck says it.
double tokens_of_run(const CommandLine& line, const RunConfig& config, const TrainingShape& shape) {
  return line.prediction.tokens.value_or(static_cast<double>(config.training.steps) *
                                         static_cast<double>(shape.tokens_per_step()));
}

}  // namespace

std::optional<TrainingShape> Planner::shape_with(const std::vector<std::string>& more, int ranks,
                                                 std::string* why) const {
  const auto refused = [&](const std::string& reason) {
    if (why != nullptr) *why = reason;
    return std::nullopt;
  };
  std::vector<std::string> overrides = overrides_;
  overrides.insert(overrides.end(), more.begin(), more.end());
  const ParsedDeck deck = parse_run_config(text_, "", overrides);
  const std::vector<DeckError> errors = check_deck(deck, ranks);
  if (!errors.empty()) return refused(errors.front().message);
  try {
    return training_shape(deck.config, mesh_shape(deck.config, ranks), backend_, vocab_size_);
  } catch (const UserError& error) {  // what FP8, or the vocabulary, asks of a rank's sizes
    return refused(error.what());
  }
}

std::int64_t planned_vocabulary(const ModelConfig& model) {
  if (model.vocab_size > 0) return model.vocab_size;
  try {
    return load_sentencepiece(model.tokenizer_path.string(), {false, false})->vocab_size();
  } catch (const UserError& error) {
    throw UserError(cat(error.what(), "; a plan without a tokenizer needs model/vocab_size"));
  }
}

std::optional<MachineRates> rates_of(const CommandLine& line) {
  const PredictionOptions& p = line.prediction;
  std::optional<MachineRates> rates;
  if (line.gpu) rates = known_rates(line.gpu->name);
  if (p.rates_file) {
    try {
      rates = read_rates(*p.rates_file, rates.value_or(MachineRates{}));
    } catch (const UserError& error) {
      throw CommandLineError(error.what());
    }
  }
  if (rates && p.between_nodes_gbs) rates->between_nodes = *p.between_nodes_gbs * 1e9;
  return rates;
}

Nodes nodes_of(const CommandLine& line) {
  return {line.prediction.ranks_of_node.value_or(Nodes{}.ranks)};
}

namespace {

ExitCode print_plan(const CommandLine& line, const DeckWithText& deck, int ranks) {
  const RunConfig& config = deck.parsed.config;
  const std::optional<MachineRates> rates = rates_of(line);
  const auto problem_of = [](const std::string& path) { return look_for_data(path).problem; };
  for (const DeckError& missing : check_files(deck.parsed, problem_of)) {
    log::warning(to_string(missing));
  }
  const std::int64_t vocab_size = planned_vocabulary(config.model);
  const Backend backend = planned_backend(line, config.job.backend);
  const TrainingShape shape =
      training_shape(config, mesh_shape(config, ranks), backend, vocab_size);
  std::cout << printable(deck.parsed.effective) << "\n# mesh: " << shape.mesh.describe() << "\n# "
            << describe_model(config.model.flavor, shape.model) << "\n";
  print_comments(describe_plan(shape, {}));
  if (rates) {
    print_comments(
        describe_prediction(shape, *rates, nodes_of(line), tokens_of_run(line, config, shape)));
  }
  if (!line.gpu) return ExitCode::done;

  const Planner planner(deck.text, line.overrides, backend, vocab_size);
  const auto plan_with = [&](const std::vector<std::string>& more,
                             int other_ranks) -> std::optional<std::int64_t> {
    const auto other = planner.shape_with(more, other_ranks);
    if (!other) return std::nullopt;
    return largest(plan_memory_of_stages(*other)).total_bytes;
  };
  const FitReport report = report_fit(*line.gpu, config, ranks, plan_with);
  print_comments(report.lines);
  return report.fits ? ExitCode::done : ExitCode::failure;
}

}  // namespace

ExitCode dry_run(const CommandLine& line) {
  const int ranks = line.ranks.value_or(launched_ranks(std::getenv));
  const auto deck = parse_alone(line.deck, line.overrides, [&](const ParsedDeck& parsed) {
    return check_deck(parsed, ranks);
  });
  if (!deck) return ExitCode::bad_input;
  return with_deck(deck->parsed, [&] { return print_plan(line, *deck, ranks); });
}

}  // namespace koios
