#include "app/deck_agreement.hpp"

#include <iostream>

#include "config/deck.hpp"

namespace koios {

ParsedDeck parse_deck(const std::string& deck, const std::string& text,
                      const std::vector<std::string>& overrides) {
  return parse_run_config(text, deck.empty() ? "(no deck)" : deck, overrides);
}

void print_errors(const std::vector<DeckError>& errors) {
  std::cerr << to_string(errors) << std::flush;
}

std::optional<ParsedDeck> parse_on_all_ranks(
    const std::string& deck, const std::vector<std::string>& overrides, const MpiEnv& mpi,
    const std::function<std::vector<DeckError>(const ParsedDeck&)>& check) {
  const bool reads = mpi.rank() == 0 && !deck.empty();
  ParsedDeck parsed = parse_deck(deck, mpi.broadcast(reads ? read_deck_file(deck) : ""), overrides);
  const std::vector<DeckError> errors = check(parsed);
  const std::vector<std::string> failed = mpi.all_gather(errors.empty() ? "" : "!");
  for (int rank = 0; rank < mpi.size(); ++rank) {
    if (failed[static_cast<std::size_t>(rank)].empty()) continue;
    if (rank == mpi.rank()) print_errors(errors);
    return std::nullopt;
  }
  return parsed;
}

}  // namespace koios
