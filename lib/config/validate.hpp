// Rules that join several keys, or a key with the world outside the deck.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "config/parse_run_config.hpp"

namespace koios {

/// Sizes that must divide, steps that must fit, degrees that must make up `ranks`. Pure.
std::vector<DeckError> check_rules(const ParsedDeck& parsed, int ranks);

/// What a run may have but was perhaps not meant: for warnings. Pure.
std::vector<DeckError> find_doubts(const ParsedDeck& parsed);

/// Why the data that a path names cannot be read; empty where it can.
using DataProblem = std::function<std::string(const std::string& path)>;

/// Files and folders that the deck names and that must be there. Touches the file system.
std::vector<DeckError> check_files(const ParsedDeck& parsed, const DataProblem& data_problem);

/// parsed.errors and the rules, sorted: all that is to be said of the deck itself.
std::vector<DeckError> check_deck(const ParsedDeck& parsed, int ranks);

/// The same with the files, sorted: all that is to be said before a run starts.
std::vector<DeckError> validate(const ParsedDeck& parsed, int ranks,
                                const DataProblem& data_problem);

}  // namespace koios
