// What can be said of a run without its ranks: --dry-run plans the deck's mesh, --suggest looks for
// better ones.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app/command_line.hpp"
#include "config/parse_run_config.hpp"
#include "core/exit_code.hpp"
#include "measure/machine_rates.hpp"
#include "train/step_time.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// A deck that is planned again and again with other overrides.
class Planner {
 public:
  Planner(std::string text, std::vector<std::string> overrides, Backend backend,
          std::int64_t vocab_size)
      : text_(std::move(text)),
        overrides_(std::move(overrides)),
        backend_(backend),
        vocab_size_(vocab_size) {}

  /// With `more` behind the command line's; nothing where the rules of a deck forbid it, and why.
  std::optional<TrainingShape> shape_with(const std::vector<std::string>& more, int ranks,
                                          std::string* why = nullptr) const;

 private:
  std::string text_;
  std::vector<std::string> overrides_;
  Backend backend_;
  std::int64_t vocab_size_;
};

/// Of the model; UserError where neither the deck nor a tokenizer says it.
std::int64_t planned_vocabulary(const ModelConfig& model);

/// The rates of --gpu, with those of --rates and --between-nodes in their place; nothing where
/// none are known.
std::optional<MachineRates> rates_of(const CommandLine& line);
Nodes nodes_of(const CommandLine& line);

/// Prints effective deck, mesh, memory and traffic plan for any mesh, how fast it would be, and
/// whether that fits the GPU asked for: ExitCode::failure where it does not. Of the deck's files it
/// only warns: data may come later.
ExitCode dry_run(const CommandLine& line);

}  // namespace koios
