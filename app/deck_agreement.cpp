#include "app/deck_agreement.hpp"

#include <iostream>

#include "config/deck.hpp"
#include "core/error.hpp"

namespace koios {
namespace {

struct DeckText {
  std::string text;
  std::string problem;  // why it could not be read
};

DeckText read_deck(const std::string& deck) {
  if (deck.empty()) return {};
  try {
    return {read_deck_file(deck), ""};
  } catch (const UserError& error) {
    return {"", error.what()};
  }
}

ParsedDeck parse_deck(const std::string& deck, const std::string& text,
                      const std::vector<std::string>& overrides) {
  return parse_run_config(text, deck.empty() ? "(no deck)" : deck, overrides);
}

void print_error(const std::string& message) {
  std::cerr << cat("error: ", message, "\n") << std::flush;
}

/// Rank 0's node is where the user looks first; another one is named.
void print_errors(std::vector<DeckError> errors, const MpiEnv& mpi) {
  for (DeckError& error : errors) {
    if (mpi.rank() != 0) error.message += cat(" (on ", mpi.host(), ", rank ", mpi.rank(), ")");
  }
  std::cerr << to_string(errors) << std::flush;
}

}  // namespace

std::optional<ParsedDeck> parse_alone(const std::string& deck,
                                      const std::vector<std::string>& overrides,
                                      const DeckCheck& check) {
  const DeckText read = read_deck(deck);
  if (!read.problem.empty()) {
    print_error(read.problem);
    return std::nullopt;
  }
  ParsedDeck parsed = parse_deck(deck, read.text, overrides);
  const std::vector<DeckError> errors = check(parsed);
  std::cerr << to_string(errors) << std::flush;
  if (!errors.empty()) return std::nullopt;
  return parsed;
}

std::optional<ParsedDeck> parse_on_all_ranks(const std::string& deck,
                                             const std::vector<std::string>& overrides,
                                             const MpiEnv& mpi, const DeckCheck& check) {
  const DeckText read = mpi.rank() == 0 ? read_deck(deck) : DeckText{};
  if (!mpi.broadcast(read.problem).empty()) {
    if (mpi.rank() == 0) print_error(read.problem);
    return std::nullopt;
  }
  ParsedDeck parsed = parse_deck(deck, mpi.broadcast(read.text), overrides);
  const std::vector<DeckError> errors = check(parsed);
  const std::vector<std::string> failed = mpi.all_gather(errors.empty() ? "" : "!");
  for (int rank = 0; rank < mpi.size(); ++rank) {
    if (failed[static_cast<std::size_t>(rank)].empty()) continue;
    if (rank == mpi.rank()) print_errors(errors, mpi);
    return std::nullopt;
  }
  return parsed;
}

}  // namespace koios
