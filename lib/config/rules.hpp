// What the rules of a deck have in common: an error stands where the user gave the value.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "config/parse_run_config.hpp"
#include "core/error.hpp"

namespace koios {

/// Collects broken rules. A rule that rests on a refused value is not judged, nor one that rests on
/// defaults alone while the deck has errors: what could not be read may have given another value.
class Rules {
 public:
  explicit Rules(const ParsedDeck& parsed) : parsed_(parsed) {}

  /// `keys` are what the rule joins; the error stands at the first of them that the user gave.
  void require(bool holds, std::initializer_list<const char*> keys, const std::string& message) {
    if (holds || !usable(keys)) return;
    const Origin at = place_of(parsed_, {keys.begin(), keys.end()});
    if (at.kind == Origin::Kind::default_value && !parsed_.errors.empty()) return;
    errors_.push_back({at, message});
  }

  /// Whether the user gave this key.
  bool is_given(const char* key) const { return koios::is_given(parsed_, key); }

  /// Whether the user asked for another value than the default. A deck of all keys, such as
  /// effective.ini, gives many that nobody asked for.
  bool is_changed(const char* key) const {
    return is_given(key) && !parsed_.keys.at(key).is_default;
  }

  bool usable(std::initializer_list<const char*> keys) const {
    return std::none_of(keys.begin(), keys.end(),
                        [&](const char* key) { return parsed_.keys.at(key).failed; });
  }

  std::vector<DeckError> errors() && { return std::move(errors_); }

 private:
  const ParsedDeck& parsed_;
  std::vector<DeckError> errors_;
};

}  // namespace koios
