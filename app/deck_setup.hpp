// From the command line to a checked configuration and mesh, the same on every rank; and the dry
// run, which stops there.
#pragma once

#include <optional>
#include <string>

#include "app/command_line.hpp"
#include "comm/mesh_shape.hpp"
#include "config/parse_run_config.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

struct DeckSetup {
  RunConfig config;
  std::string effective;
  MeshShape mesh;
};

/// As parse_on_all_ranks(), with every rank looking for the deck's files on its own node.
std::optional<DeckSetup> set_up_on_all_ranks(const CommandLine& line, const MpiEnv& mpi);

/// Prints effective deck, mesh, memory and traffic plan for any mesh, and whether that fits the GPU
/// asked for: ExitCode::failure where it does not. Of the deck's files it only warns: data may come
/// later.
ExitCode dry_run(const CommandLine& line);

/// job/backend = auto is cuda where this build has it and finds a GPU.
Backend choose_backend(BackendChoice choice);

/// metrics/enable_color_printing = auto is a terminal.
bool use_color(AutoSwitch choice);

}  // namespace koios
