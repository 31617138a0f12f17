#include "config/deck_difference.hpp"

#include <map>

#include "config/deck.hpp"

namespace koios {
namespace {

std::map<std::string, std::string> values_of(std::string_view text) {
  std::map<std::string, std::string> values;
  for (const DeckEntry& entry : parse_deck(text, "deck").entries) {
    values[entry.section + "/" + entry.key] = entry.value;
  }
  return values;
}

}  // namespace

std::vector<DeckDifference> compare_decks(std::string_view saved, std::string_view current) {
  const auto before = values_of(saved);
  const auto now = values_of(current);
  std::vector<DeckDifference> differences;
  for (const auto& [key, value] : now) {
    const auto at = before.find(key);
    const std::string old = at == before.end() ? kNotGiven : at->second;
    if (old != value) differences.push_back({key, old, value});
  }
  for (const auto& [key, value] : before) {
    if (!now.contains(key)) differences.push_back({key, value, kNotGiven});
  }
  return differences;
}

}  // namespace koios
