// From the command line to a checked configuration and mesh, the same on every rank.
#pragma once

#include <optional>

#include "app/command_line.hpp"
#include "comm/mesh_shape.hpp"
#include "config/parse_run_config.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

struct DeckSetup {
  ParsedDeck parsed;
  MeshShape mesh;
};

/// As parse_on_all_ranks(), and with the mesh of these ranks.
std::optional<DeckSetup> set_up_on_all_ranks(const CommandLine& line, const MpiEnv& mpi);

/// The deck's degrees on so many ranks.
MeshShape mesh_shape(const RunConfig& config, int ranks);

/// job/backend = auto is cuda where this build has it and finds a GPU.
Backend choose_backend(BackendChoice choice);

/// metrics/enable_color_printing = auto is a terminal.
bool use_color(std::optional<bool> choice);

}  // namespace koios
