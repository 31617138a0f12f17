// koios: the training program. Scopes are the shutdown order: MPI, then the device, then the run.
#include <cstdlib>
#include <iostream>

#include "app/command_line.hpp"
#include "app/deck_setup.hpp"
#include "app/failure.hpp"
#include "app/versions.hpp"
#include "core/log.hpp"
#include "runtime/device.hpp"
#include "runtime/mpi_env.hpp"
#include "train/trainer.hpp"

namespace {

using namespace koios;

int train(const CommandLine& line, std::vector<std::string> command_line, int argc, char** argv) {
  PhaseClock start;
  const MpiEnv mpi(argc, argv);
  start.done("mpi");
  log::configure({.rank = mpi.rank(), .shown = mpi.rank() == 0});
  const std::optional<DeckSetup> deck = set_up_on_all_ranks(line, mpi);
  if (!deck) return kBadInput;
  start.done("deck");
  const RunConfig& config = deck->config;
  log::configure({.rank = mpi.rank(),
                  .shown = config.metrics.shows(mpi.rank()),
                  .color = use_color(config.metrics.enable_color_printing)});
  const DeviceEnv device(choose_backend(config.job.backend), mpi.local_rank());
  start.done("device");
  run_training(config, deck->mesh,
               {.mpi = mpi,
                .device = device,
                .start = start,
                .command_line = std::move(command_line),
                .effective_deck = deck->effective,
                .library_versions = library_versions()});
  return EXIT_SUCCESS;
}

int run(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const CommandLine line = parse_command_line(arguments);
  switch (line.action) {
    case Action::help:
      std::cout << usage();
      return end_of_output();
    case Action::help_deck:
      std::cout << help_deck();
      return end_of_output();
    case Action::version:
      std::cout << version_text();
      return end_of_output();
    case Action::dry_run:
      return dry_run(line) ? end_of_output() : kBadInput;
    case Action::train:
      return train(line, {argv, argv + argc}, argc, argv);
  }
  return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const CommandLineError& error) {
    return refuse(error);
  } catch (const std::exception& error) {
    end_job(error);
  }
}
