#include "app/deck_setup.hpp"

#include <iostream>

#include "app/deck_agreement.hpp"
#include "config/parallel_degrees.hpp"
#include "config/validate.hpp"
#include "core/log.hpp"
#include "core/printable.hpp"
#include "data/tokenizer.hpp"
#include "metrics/terminal.hpp"
#include "runtime/device.hpp"
#include "train/start_report.hpp"
#include "train/training_memory.hpp"

namespace koios {
namespace {

MeshShape mesh_shape(const RunConfig& config, int ranks) {
  const ParallelDegrees d = resolve_degrees(config.parallel, ranks);
  return {{d.pp, d.dp_replicate, d.dp_shard, d.cp, d.tp}};
}

std::int64_t planned_vocabulary(const ModelConfig& model) {
  if (model.vocab_size > 0) return model.vocab_size;
  try {
    return load_sentencepiece(model.tokenizer_path.string(), {false, false})->vocab_size();
  } catch (const UserError& error) {
    throw UserError(cat(error.what(), "; a plan without a tokenizer needs model/vocab_size"));
  }
}

/// A plan for GPUs needs none, and no build for them.
Backend planned_backend(BackendChoice choice) {
  return choice == BackendChoice::cuda ? Backend::cuda : choose_backend(choice);
}

}  // namespace

std::optional<DeckSetup> set_up_on_all_ranks(const CommandLine& line, const MpiEnv& mpi) {
  const auto parsed =
      parse_on_all_ranks(line.deck, line.overrides, mpi, [&](const ParsedDeck& deck) {
        // The self-test reads no data.
        return line.task == Task::self_test ? check_deck(deck, mpi.size())
                                            : validate(deck, mpi.size());
      });
  if (!parsed) return std::nullopt;
  return DeckSetup{parsed->config, parsed->effective, mesh_shape(parsed->config, mpi.size())};
}

ExitCode dry_run(const CommandLine& line) {
  const int ranks = line.ranks.value_or(1);
  const auto deck = parse_alone(line.deck, line.overrides, [&](const ParsedDeck& parsed) {
    return check_deck(parsed, ranks);
  });
  if (!deck) return ExitCode::bad_input;
  const RunConfig& config = deck->parsed.config;
  for (const DeckError& missing : check_files(deck->parsed)) log::warning(to_string(missing));
  const std::int64_t vocab_size = planned_vocabulary(config.model);
  const Backend backend =
      line.gpu ? Backend::cuda : line.backend.value_or(planned_backend(config.job.backend));
  const TrainingShape shape =
      training_shape(config, mesh_shape(config, ranks), backend, vocab_size);
  std::cout << printable(deck->parsed.effective) << "\n# mesh: " << shape.mesh.describe() << "\n# "
            << describe_model(config.model.flavor, shape.model) << "\n";
  for (const auto& text : describe_plan(shape, {})) {
    std::cout << "# " << printable(text) << "\n";
  }
  if (!line.gpu) return ExitCode::done;

  const auto plan_with = [&](const std::vector<std::string>& more,
                             int other_ranks) -> std::optional<std::int64_t> {
    std::vector<std::string> overrides = line.overrides;
    overrides.insert(overrides.end(), more.begin(), more.end());
    const ParsedDeck other = parse_run_config(deck->text, "", overrides);
    const std::int64_t tp = other.config.parallel.tensor_parallel;
    if (!check_deck(other, other_ranks).empty() || vocab_size % tp != 0) return std::nullopt;
    const TrainingShape other_shape =
        training_shape(other.config, mesh_shape(other.config, other_ranks), backend, vocab_size);
    return largest(plan_memory_of_stages(other_shape)).total_bytes;
  };
  const FitReport report = report_fit(*line.gpu, config, ranks, plan_with);
  for (const std::string& text : report.lines) std::cout << "# " << printable(text) << "\n";
  return report.fits ? ExitCode::done : ExitCode::failure;
}

Backend choose_backend(BackendChoice choice) {
  switch (choice) {
    case BackendChoice::host:
      return Backend::host;
    case BackendChoice::cuda:
      if (!is_built_in(Backend::cuda)) {
        throw UserError(
            "[job] backend = cuda: this is the host build; build with cmake --preset "
            "cuda, or set backend = auto");
      }
      return Backend::cuda;
    case BackendChoice::automatic:
      return is_built_in(Backend::cuda) && count_gpus() > 0 ? Backend::cuda : Backend::host;
  }
  KOIOS_REQUIRE(false, "unknown backend");
}

bool use_color(AutoSwitch choice) {
  return choice == AutoSwitch::on || (choice == AutoSwitch::automatic && stdout_is_terminal());
}

}  // namespace koios
