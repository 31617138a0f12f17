// Deck text and command-line overrides to a RunConfig. Pure: it reads no file and no environment
// but the one it is given, so that every rank makes the same of the same text.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/deck.hpp"
#include "config/expand.hpp"
#include "config/run_config.hpp"

namespace koios {

struct KeyState {
  Origin origin;
  bool failed = false;      // a value was given and refused; the default stands in its place
  bool is_default = false;  // the value is the default, wherever it comes from
};

struct ParsedDeck {
  RunConfig config;                      // sizes of the model resolved
  std::vector<DeckError> errors;         // sorted; of form, names and single values; see merge()
  std::string effective;                 // the deck in force, as INI text
  std::map<std::string, KeyState> keys;  // "training/seq_len"
};

/// Whether the user gave this key.
bool is_given(const ParsedDeck& parsed, const std::string& key);
/// Of the first of these keys that the user gave; else that of the first key's default.
Origin place_of(const ParsedDeck& parsed, const std::vector<std::string>& keys);
DeckError locate(const ParsedDeck& parsed, const DeckValueError& error);

/// `name` is what errors call the deck; an empty text gives the defaults.
ParsedDeck parse_run_config(std::string_view text, const std::string& name,
                            const std::vector<std::string>& overrides,
                            const Environment& environment = process_environment);

/// The reference of all keys, as Markdown (koios --help-deck).
std::string help_deck();

}  // namespace koios
