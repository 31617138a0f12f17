// INI text to entries that know where they stand. Nothing here knows which keys exist.
//
// A line is looked at once, here: comment, blanks, section header. What is left, "key = value", is
// inih's to part. It gets such lines one by one, because Debian's inih takes # as part of a value,
// cuts lines at 199 characters and sections at 49, joins indented lines to the one before, gives no
// line numbers and reports only the first error. A comment starts with # or ; at the start of a
// line or after a blank.
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
  std::vector<DeckEntry> refused;     // those with a value_problem()
  DeckErrors errors;                  // of form; each names its line
};

/// Reads the whole text whatever is wrong with it. `name` is what errors call the file.
Deck parse_deck(std::string_view text, const std::string& name);

/// "section/key=value" or "section.key=value", in the order of the command line. Of a key that is
/// given several times the last one counts, so that a script may append to what it was given; its
/// origin says so.
Deck parse_overrides(const std::vector<std::string>& overrides);

/// Why no deck can hold the value, or not as it is meant, or why it could not be saved with a run
/// (in JSON and HDF5, both UTF-8); empty where all is well.
std::string value_problem(std::string_view value);

/// The text of a deck: a file, a pipe, or "-" for standard input. Throws UserError where it cannot
/// be read, is larger than any deck, or nothing comes.
std::string read_deck_file(const std::string& path);

}  // namespace koios
