// Where a value of the deck comes from, and errors that say so.
#pragma once

#include <string>
#include <vector>

namespace koios {

struct Origin {
  enum class Kind { file, command_line, derived, default_value };

  Kind kind = Kind::default_value;
  std::string text = "default";  // "input/debug.ini:12", "command line", "flavor 7B", "default"
  int order = 0;                 // line of the file, or position on the command line
};

struct DeckError {
  Origin origin;
  std::string message;
};

/// "error: input/debug.ini:12: [training] sequence_len is not a key; did you mean seq_len?"
std::string to_string(const DeckError& error);

/// One error a line, each line ended.
std::string to_string(const std::vector<DeckError>& errors);

/// By line of the file, then by position on the command line, then the rest; stable.
void sort_errors(std::vector<DeckError>& errors);

}  // namespace koios
