#include "config/deck_error.hpp"

#include <algorithm>
#include <tuple>

#include "core/error.hpp"

namespace koios {

std::string to_string(const DeckError& error) {
  return cat("error: ", error.origin.text, ": ", error.message);
}

std::string to_string(const std::vector<DeckError>& errors) {
  std::string lines;
  for (const DeckError& error : errors) lines += to_string(error) + "\n";
  return lines;
}

void sort_errors(std::vector<DeckError>& errors) {
  std::stable_sort(errors.begin(), errors.end(), [](const DeckError& a, const DeckError& b) {
    return std::tie(a.origin.kind, a.origin.order) < std::tie(b.origin.kind, b.origin.order);
  });
}

}  // namespace koios
