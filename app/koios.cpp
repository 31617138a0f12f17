// koios: the training program. Scopes are the shutdown order: MPI, then the device, then the run.
#include <cstdlib>
#include <iostream>

#include "app/command_line.hpp"
#include "app/deck_agreement.hpp"
#include "app/deck_setup.hpp"
#include "app/failure.hpp"
#include "app/planner.hpp"
#include "app/start_limit.hpp"
#include "app/suggest.hpp"
#include "app/versions.hpp"
#include "comm/watchdog.hpp"
#include "core/integers.hpp"
#include "core/log.hpp"
#include "runtime/device.hpp"
#include "runtime/file.hpp"
#include "runtime/launch_check.hpp"
#include "runtime/mpi_env.hpp"
#include "runtime/mpi_leftovers.hpp"
#include "runtime/signals.hpp"
#include "train/deck_options.hpp"
#include "train/run_self_test.hpp"
#include "train/run_training.hpp"

namespace {

using namespace koios;

/// What needs no ranks: of those that a launcher started the first says it.
ExitCode answer(const CommandLine& line) {
  if (launched_rank(std::getenv) != 0) return ExitCode::done;
  switch (line.task) {
    case Task::help:
      std::cout << usage();
      break;
    case Task::help_deck:
      std::cout << help_deck();
      break;
    case Task::version:
      std::cout << version_text();
      break;
    case Task::dry_run:
      if (const ExitCode code = dry_run(line); code != ExitCode::done) return code;
      break;
    case Task::suggest:
      if (const ExitCode code = suggest(line); code != ExitCode::done) return code;
      break;
    case Task::train:
    case Task::self_test:
      KOIOS_REQUIRE(false, "that needs ranks");
  }
  return end_of_output();
}

ExitCode train_or_test(Task task, const DeckSetup& deck, std::vector<std::string> command_line,
                       PhaseClock& start, StartLimit& limit, Signals& signals, const MpiEnv& mpi) {
  const RunConfig& config = deck.parsed.config;
  log::configure({.rank = mpi.rank(),
                  .shown = config.metrics.shows(mpi.rank()),
                  .color = use_color(config.metrics.enable_color_printing)});
  FlightRecorder recorder(mpi.rank(), narrow<int>(config.comm.trace_buf_size));
  Watchdog watchdog(mpi, recorder, comm_options(config), config.job.dump_folder);
  watchdog.start("starting the device");
  limit.end();
  if (deck.mesh.size(Axis::pp) > 1) load_kernels_at_start();
  const DeviceEnv device(choose_backend(config.job.backend), mpi.local_rank());
  MemoryBook memory(device.backend());
  start.done("device");
  if (task == Task::self_test) {
    return run_self_test(config, deck.mesh, mpi, device, recorder, watchdog);
  }
  return run_training(config, deck.mesh,
                      {.mpi = mpi,
                       .device = device,
                       .start = start,
                       .memory = memory,
                       .signals = signals,
                       .recorder = recorder,
                       .watchdog = watchdog,
                       .command_line = std::move(command_line),
                       .effective_deck = deck.parsed.effective,
                       .library_versions = library_versions()})
      .exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  koios::files::hold_standard_descriptors();
  koios::files::report_too_large_files();
  return koios::guard([&] {
    const CommandLine line = parse_command_line({argv + 1, argv + argc});
    const bool needs_ranks = line.task == Task::train || line.task == Task::self_test;
    if (!needs_ranks) return answer(line);
    Signals signals;
    PhaseClock start;
    StartLimit limit(start_limit(line.overrides));
    std::vector<std::string> command_line(argv, argv + argc);
    return on_all_ranks(argc, argv, [&](const MpiEnv& mpi) {
      if (mpi.local_rank() == 0) remove_mpi_leftovers(mpi.host());
      start.done("mpi");
      const std::optional<DeckSetup> deck = set_up_on_all_ranks(line, mpi);
      if (!deck) return ExitCode::bad_input;
      start.done("deck");
      return with_deck(deck->parsed, [&] {
        return train_or_test(line.task, *deck, std::move(command_line), start, limit, signals, mpi);
      });
    });
  });
}
