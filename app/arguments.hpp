// What every program of app/ takes: a deck, overrides of it, and a few options of its own.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace koios {

/// "--name", or with a value "--name VALUE" and "--name=VALUE". An action must not fail silently:
/// it throws CommandLineError where the value is wrong.
struct ProgramOption {
  std::string name;
  std::function<void()> found;                              // of a switch, or
  std::function<void(const std::string& value)> take = {};  // of one with a value
};

struct DeckArguments {
  std::string deck;                    // empty: the defaults; "-": standard input
  std::vector<std::string> overrides;  // section/key=value, in order
};

/// Throws CommandLineError on an option that is none of these, a value that is missing, a second
/// deck, or an empty argument. `program` is named in the messages.
DeckArguments parse_arguments(const std::string& program, const std::vector<std::string>& arguments,
                              const std::vector<ProgramOption>& options);

}  // namespace koios
