#include "config/deck_error.hpp"

#include <algorithm>
#include <tuple>

#include "core/error.hpp"

namespace koios {

std::string to_string(const DeckError& error) {
  return cat(error.origin.text, ": ", error.message);
}

std::string to_string(const std::vector<DeckError>& errors) {
  std::string lines;
  for (const DeckError& error : errors) lines += cat("error: ", to_string(error), "\n");
  return lines;
}

void sort_errors(std::vector<DeckError>& errors) {
  std::stable_sort(errors.begin(), errors.end(), [](const DeckError& a, const DeckError& b) {
    return std::tie(a.origin.kind, a.origin.order) < std::tie(b.origin.kind, b.origin.order);
  });
}

std::vector<DeckError> merge(std::initializer_list<const DeckErrors*> lists,
                             const std::string& deck_name) {
  std::vector<DeckError> errors;
  std::int64_t untold = 0;
  for (const DeckErrors* list : lists) {
    errors.insert(errors.end(), list->told().begin(), list->told().end());
    untold += list->untold();
  }
  sort_errors(errors);
  if (errors.size() > DeckErrors::kMost) {
    untold += static_cast<std::int64_t>(errors.size() - DeckErrors::kMost);
    errors.resize(DeckErrors::kMost);
  }
  if (untold > 0) {
    DeckError& rest = errors.emplace_back();
    rest.origin.text = deck_name;
    rest.message = cat(untold, " more errors");
  }
  return errors;
}

}  // namespace koios
