#include "app/arguments.hpp"

#include <algorithm>

#include "app/failure.hpp"

namespace koios {

DeckArguments parse_arguments(const std::string& program, const std::vector<std::string>& arguments,
                              const std::vector<ProgramOption>& options) {
  DeckArguments result;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.empty()) {
      throw CommandLineError("an argument is empty: a variable of the shell that is not set?");
    }
    if (argument.starts_with('-') && argument != "-") {
      const std::string name = argument.substr(0, argument.find('='));
      const auto option = std::ranges::find(options, name, &ProgramOption::name);
      if (option == options.end()) {
        throw CommandLineError(cat(name, " is not an option; ", program, " --help lists them"));
      }
      const bool has_value = name.size() < argument.size();
      if (!option->take) {
        if (has_value) throw CommandLineError(cat(name, " takes no value"));
        option->found();
      } else if (has_value) {
        option->take(argument.substr(name.size() + 1));
      } else {
        if (i + 1 == arguments.size()) throw CommandLineError(cat(name, " takes a value"));
        option->take(arguments[++i]);
      }
    } else if (argument.find('=') != std::string::npos) {
      result.overrides.push_back(argument);
    } else if (result.deck.empty()) {
      result.deck = argument;
    } else {
      throw CommandLineError(cat("two decks: ", result.deck, " and ", argument,
                                 "; an override is written section/key=value"));
    }
  }
  return result;
}

}  // namespace koios
