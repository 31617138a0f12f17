// INI text to entries that know where they stand. Nothing here knows which keys exist.
//
// inih does the parsing, fed by our own line reader: Debian's inih takes # as part of a value, cuts
// lines at 199 characters (of longer ones it is given the key alone), joins indented lines to the
// one before, gives no line numbers and reports only the first error. A comment starts with # or ;
// at the start of a line or after a blank.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/deck_error.hpp"

namespace koios {

struct DeckSection {
  std::string name;
  Origin origin;
};

struct DeckEntry {
  std::string section;
  std::string key;
  std::string value;  // trimmed; may be empty
  Origin origin;
};

struct Deck {
  std::vector<DeckSection> sections;  // headers, as often as they appear
  std::vector<DeckEntry> entries;     // in order of appearance, duplicates left out
  std::vector<DeckError> errors;      // of form; each names its line
};

/// Reads the whole text whatever is wrong with it. `name` is what errors call the file.
Deck parse_deck(std::string_view text, const std::string& name);

/// "section/key=value" or "section.key=value", in the order of the command line.
Deck parse_overrides(const std::vector<std::string>& overrides);

/// The text of a deck file; throws UserError where it cannot be read.
std::string read_deck_file(const std::string& path);

}  // namespace koios
