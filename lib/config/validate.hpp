// Rules that join several keys, or a key with the world outside the deck.
#pragma once

#include <vector>

#include "config/parse_run_config.hpp"

namespace koios {

/// Sizes that must divide, steps that must fit, degrees that must make up `ranks`. Pure.
std::vector<DeckError> check_rules(const ParsedDeck& parsed, int ranks);

/// What a run may have but was perhaps not meant: for warnings. Pure.
std::vector<DeckError> find_doubts(const ParsedDeck& parsed);

/// Files and folders that the deck names and that must be there. Touches the file system.
std::vector<DeckError> check_files(const ParsedDeck& parsed);

/// parsed.errors and the rules, sorted: all that is to be said of the deck itself.
std::vector<DeckError> check_deck(const ParsedDeck& parsed, int ranks);

/// The same with the files, sorted: all that is to be said before a run starts.
std::vector<DeckError> validate(const ParsedDeck& parsed, int ranks);

}  // namespace koios
