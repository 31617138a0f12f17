#include "app/command_line.hpp"

#include <charconv>
#include <iomanip>

#include "app/failure.hpp"
#include "core/exit_code.hpp"

namespace koios {
namespace {

int positive_integer(const std::string& option, const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1) {
    throw CommandLineError(cat(option, " takes a whole number from 1 on, not '", text, "'"));
  }
  return value;
}

Backend backend_named(const std::string& text) {
  for (const Backend backend : {Backend::host, Backend::cuda}) {
    if (text == to_string(backend)) return backend;
  }
  throw CommandLineError(cat("--backend takes host or cuda, not '", text, "'"));
}

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& arguments) {
  CommandLine line;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const auto value = [&] {
      if (i + 1 == arguments.size()) throw CommandLineError(cat(argument, " takes a value"));
      return arguments[++i];
    };
    if (argument.empty()) {
      throw CommandLineError("an argument is empty: a variable of the shell that is not set?");
    }
    if (argument == "--help" || argument == "-h") {
      line.action = Action::help;
    } else if (argument == "--help-deck") {
      line.action = Action::help_deck;
    } else if (argument == "--version") {
      line.action = Action::version;
    } else if (argument == "--dry-run") {
      line.action = Action::dry_run;
    } else if (argument == "-t") {
      line.overrides.push_back(cat("job/walltime=", value()));
    } else if (argument == "--ranks") {
      line.ranks = positive_integer(argument, value());
    } else if (argument.starts_with("--ranks=")) {
      line.ranks = positive_integer("--ranks", argument.substr(argument.find('=') + 1));
    } else if (argument == "--backend") {
      line.backend = backend_named(value());
    } else if (argument.starts_with("--backend=")) {
      line.backend = backend_named(argument.substr(argument.find('=') + 1));
    } else if (argument.starts_with("-")) {
      throw CommandLineError(cat(argument, " is not an option; koios --help lists them"));
    } else if (argument.find('=') != std::string::npos) {
      line.overrides.push_back(argument);
    } else if (line.deck.empty()) {
      line.deck = argument;
    } else {
      throw CommandLineError(cat("two decks: ", line.deck, " and ", argument,
                                 "; an override is written section/key=value"));
    }
  }
  if (line.action != Action::dry_run && (line.ranks || line.backend)) {
    throw CommandLineError(
        "--ranks and --backend belong to --dry-run; a run takes its ranks from mpirun "
        "or srun and its backend from job/backend");
  }
  return line;
}

std::string usage() {
  std::string text =
      "koios trains Llama 2 models from scratch.\n"
      "\n"
      "  mpirun -np N koios [DECK] [section/key=value ...]   train\n"
      "  koios [DECK] [section/key=value ...] --dry-run [--ranks N] [--backend host|cuda]\n"
      "                                       the deck in force, mesh, memory and traffic; no "
      "training\n"
      "  koios --help-deck                    every key with its default and meaning "
      "(Markdown)\n"
      "  koios --version                      versions of koios and its libraries\n"
      "  koios --help                         this text\n"
      "\n"
      "Without a deck the defaults run. An override may also be written section.key=value.\n"
      "-t TIME is job/walltime=TIME: saves and stops before that (minutes, MM:SS, HH:MM:SS,\n"
      "D-HH:MM:SS).\n"
      "Paths are relative to the working directory.\n"
      "\n"
      "Exit codes:\n";
  for (const ExitMeaning& exit : kExitMeanings) {
    text += cat("  ", std::setw(3), to_int(exit.code), "  ", exit.meaning, "\n");
  }
  return text;
}

}  // namespace koios
