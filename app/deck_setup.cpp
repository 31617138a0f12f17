#include "app/deck_setup.hpp"

#include <utility>

#include "app/deck_agreement.hpp"
#include "config/parallel_degrees.hpp"
#include "config/validate.hpp"
#include "metrics/terminal.hpp"
#include "runtime/device.hpp"

namespace koios {

MeshShape mesh_shape(const RunConfig& config, int ranks) {
  const ParallelDegrees d = resolve_degrees(config.parallel, ranks);
  return {{d.pp, d.dp_replicate, d.dp_shard, d.cp, d.tp}};
}

std::optional<DeckSetup> set_up_on_all_ranks(const CommandLine& line, const MpiEnv& mpi) {
  auto parsed = parse_on_all_ranks(
      line.deck, line.overrides, mpi, [&](const ParsedDeck& deck, const DataProblem& data) {
        // The self-test reads no data.
        return line.task == Task::self_test ? check_deck(deck, mpi.size())
                                            : validate(deck, mpi.size(), data);
      });
  if (!parsed) return std::nullopt;
  const MeshShape mesh = mesh_shape(parsed->config, mpi.size());
  return DeckSetup{std::move(*parsed), mesh};
}

Backend choose_backend(BackendChoice choice) {
  switch (choice) {
    case BackendChoice::host:
      return Backend::host;
    case BackendChoice::cuda:
      if (!is_built_in(Backend::cuda)) {
        throw DeckValueError(
            {"job/backend"},
            "[job] backend = cuda: this is the host build; build with cmake --preset "
            "cuda, or set backend = auto");
      }
      return Backend::cuda;
    case BackendChoice::automatic:
      return is_built_in(Backend::cuda) && count_gpus() > 0 ? Backend::cuda : Backend::host;
  }
  KOIOS_REQUIRE(false, "unknown backend");
}

bool use_color(std::optional<bool> choice) { return choice.value_or(stdout_is_terminal()); }

}  // namespace koios
