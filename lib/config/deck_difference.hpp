// Two decks compared key by key: that of a checkpoint with the one in force.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace koios {

inline constexpr const char* kNotGiven = "not given";  // where a deck lacks the key

struct DeckDifference {
  std::string key;  // "optimizer/lr"
  std::string saved;
  std::string current;
};

/// Both texts are effective decks.
std::vector<DeckDifference> compare_decks(std::string_view saved, std::string_view current);

}  // namespace koios
