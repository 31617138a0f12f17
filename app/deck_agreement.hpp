// The deck as every rank of a job takes it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/parse_run_config.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

/// Deck and overrides, parsed.
ParsedDeck parse_deck(const std::string& deck, const std::string& text,
                      const std::vector<std::string>& overrides);

/// Prints them, as the deck's errors are printed.
void print_errors(const std::vector<DeckError>& errors);

/// Rank 0 reads the deck, every rank parses the same text and has it checked. Where anything is
/// wrong, all errors are printed once, by the lowest rank that has some, and every rank gets
/// nothing.
std::optional<ParsedDeck> parse_on_all_ranks(
    const std::string& deck, const std::vector<std::string>& overrides, const MpiEnv& mpi,
    const std::function<std::vector<DeckError>(const ParsedDeck&)>& check);

}  // namespace koios
