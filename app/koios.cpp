// koios: the training program. Scopes are the shutdown order: MPI, then the device, then the run.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "app/command_line.hpp"
#include "app/deck_setup.hpp"
#include "app/versions.hpp"
#include "core/log.hpp"
#include "runtime/device.hpp"
#include "runtime/mpi_env.hpp"
#include "train/trainer.hpp"

namespace {

using namespace koios;

constexpr int kBadInput = 2;

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
      return EXIT_SUCCESS;
    case Action::help_deck:
      std::cout << help_deck();
      return EXIT_SUCCESS;
    case Action::version:
      std::cout << version_text();
      return EXIT_SUCCESS;
    case Action::dry_run:
      return dry_run(line) ? EXIT_SUCCESS : kBadInput;
    case Action::train:
      return train(line, {argv, argv + argc}, argc, argv);
  }
  return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    // What every rank runs into is told by rank 0, whose abort ends the others in this pause.
    if (log::settings().rank != 0) std::this_thread::sleep_for(std::chrono::seconds(1));
    log::error(e.what());
  }
  MpiEnv::abort(EXIT_FAILURE);
}
