#include "app/deck_setup.hpp"

#include <iostream>

#include "app/deck_agreement.hpp"
#include "config/parallel_degrees.hpp"
#include "config/validate.hpp"
#include "core/log.hpp"
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
    return load_sentencepiece(model.tokenizer_path.string())->vocab_size();
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
      parse_on_all_ranks(line.deck, line.overrides, mpi,
                         [&](const ParsedDeck& deck) { return validate(deck, mpi.size()); });
  if (!parsed) return std::nullopt;
  return DeckSetup{parsed->config, parsed->effective, mesh_shape(parsed->config, mpi.size())};
}

bool dry_run(const CommandLine& line) {
  const int ranks = line.ranks.value_or(1);
  const auto parsed = parse_alone(line.deck, line.overrides,
                                  [&](const ParsedDeck& deck) { return check_deck(deck, ranks); });
  if (!parsed) return false;
  const RunConfig& config = parsed->config;
  for (const DeckError& missing : check_files(*parsed)) {
    log::warning(missing.origin.text, ": ", missing.message);
  }
  const std::int64_t vocab_size = planned_vocabulary(config.model);
  const Backend backend = line.backend.value_or(planned_backend(config.job.backend));
  const TrainingShape shape =
      training_shape(config, mesh_shape(config, ranks), backend, vocab_size);
  std::cout << parsed->effective << "\n# mesh: " << shape.mesh.describe() << "\n# "
            << describe_model(config.model.flavor, shape.model) << "\n";
  for (const auto& text : describe_plan(shape, plan_memory(shape), plan_traffic(shape), {})) {
    std::cout << "# " << text << "\n";
  }
  return true;
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

bool use_color(ColorChoice choice) {
  return choice == ColorChoice::on || (choice == ColorChoice::automatic && stdout_is_terminal());
}

}  // namespace koios
