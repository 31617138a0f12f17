// What was typed after `koios`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/gpu_fit.hpp"
#include "runtime/backend.hpp"

namespace koios {

enum class Task { train, self_test, dry_run, suggest, help, help_deck, version };

/// Of --dry-run and --suggest: how fast a run would be.
struct PredictionOptions {
  std::optional<std::string> rates_file;
  std::optional<int> ranks_of_node;
  std::optional<double> between_nodes_gbs;
  std::optional<double> tokens;           // of the whole run; else the deck's steps
  std::optional<std::int64_t> sequences;  // of a step over all ranks; --suggest only
};

struct CommandLine {
  Task task = Task::train;
  std::string deck;                    // empty: the defaults; "-": standard input
  std::vector<std::string> overrides;  // section/key=value, in order
  // Of --dry-run and --suggest only:
  std::optional<int> ranks;
  std::optional<Backend> backend;
  std::optional<GpuMemory> gpu;
  PredictionOptions prediction;
};

/// Throws CommandLineError on an option it does not know or an argument that is missing.
CommandLine parse_command_line(const std::vector<std::string>& arguments);

/// The text of --help.
std::string usage();

}  // namespace koios
