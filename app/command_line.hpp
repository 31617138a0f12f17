// What was typed after `koios`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app/gpu_fit.hpp"
#include "runtime/backend.hpp"

namespace koios {

enum class Task { train, self_test, dry_run, help, help_deck, version };

struct CommandLine {
  Task task = Task::train;
  std::string deck;                    // empty: the defaults; "-": standard input
  std::vector<std::string> overrides;  // section/key=value, in order
  std::optional<int> ranks;            // --dry-run only
  std::optional<Backend> backend;      // --dry-run only
  std::optional<GpuMemory> gpu;        // --dry-run only
};

/// Throws CommandLineError on an option it does not know or an argument that is missing.
CommandLine parse_command_line(const std::vector<std::string>& arguments);

/// The text of --help.
std::string usage();

}  // namespace koios
