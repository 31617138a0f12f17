// The deck as every rank of a job takes it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/parse_run_config.hpp"
#include "config/validate.hpp"
#include "core/exit_code.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

using DeckCheck = std::function<std::vector<DeckError>(const ParsedDeck&, const DataProblem&)>;

struct DeckWithText {
  std::string text;
  ParsedDeck parsed;
};

/// Deck and overrides, parsed and checked by this process alone; nothing after printing what is
/// wrong.
std::optional<DeckWithText> parse_alone(
    const std::string& deck, const std::vector<std::string>& overrides,
    const std::function<std::vector<DeckError>(const ParsedDeck&)>& check);

/// Rank 0 reads the deck, every rank parses the same text and has it checked; folders and patterns
/// of data are searched by rank 0 alone, and the others see whether it is there for them, too.
/// Where anything is wrong, all errors are printed once, by the lowest rank that has some, and
/// every rank gets nothing.
std::optional<ParsedDeck> parse_on_all_ranks(const std::string& deck,
                                             const std::vector<std::string>& overrides,
                                             const MpiEnv& mpi, const DeckCheck& check);

/// program(); where it throws DeckValueError, rank 0 prints that with the value's place.
ExitCode with_deck(const ParsedDeck& parsed, const std::function<ExitCode()>& program);

}  // namespace koios
