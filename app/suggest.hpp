// --suggest: the fastest meshes for a deck's model on so many GPUs, by prediction, of those that
// fit them by the plan.
#pragma once

#include "app/command_line.hpp"
#include "core/exit_code.hpp"

namespace koios {

/// Prints the best meshes, each with what limits it and the overrides to paste behind the deck.
/// ExitCode::failure where none fits.
ExitCode suggest(const CommandLine& line);

}  // namespace koios
