#include "app/deck_agreement.hpp"

#include <map>
#include <string_view>

#include "config/deck.hpp"
#include "config/validate.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "core/printable.hpp"

namespace koios {
namespace {

struct DeckText {
  std::string text;
  std::string problem;  // why it could not be read
};

DeckText read_deck(const std::string& deck) {
  if (deck.empty()) return {};
  try {
    return {read_deck_file(deck), ""};
  } catch (const UserError& error) {
    return {"", error.what()};
  }
}

/// As effective.ini and messages have it: one line of UTF-8, whatever the file is called.
std::string shown_name(const std::string& deck) {
  if (deck.empty()) return "(no deck)";
  if (deck == "-") return "(standard input)";
  std::string name = printable(deck);
  for (auto at = name.find('\n'); at != std::string::npos; at = name.find('\n')) {
    name.replace(at, 1, "\\x0a");
  }
  return name;
}

ParsedDeck parse_deck(const std::string& deck, const std::string& text,
                      const std::vector<std::string>& overrides,
                      const Environment& environment = process_environment) {
  return parse_run_config(text, shown_name(deck), overrides, environment);
}

/// What the paths of a deck asked of rank 0's environment, so that all ranks get the same answers:
/// other nodes may have other variables, or none.
class SharedEnvironment {
 public:
  /// On rank 0.
  std::optional<std::string> ask(const std::string& name) {
    const auto value = process_environment(name);
    answers_[name] = value;
    return value;
  }
  std::optional<std::string> answer(const std::string& name) const {
    const auto at = answers_.find(name);
    return at == answers_.end() ? std::nullopt : at->second;
  }

  /// Names of variables have no "=", and nothing of the environment has a zero byte.
  std::string to_text() const {
    std::string text;
    for (const auto& [name, value] : answers_) {
      text += value ? cat(name, "=", *value) : name;
      text += '\0';
    }
    return text;
  }
  explicit SharedEnvironment(std::string_view text = {}) {
    while (!text.empty()) {
      const std::string_view entry = text.substr(0, text.find('\0'));
      text.remove_prefix(entry.size() + 1);
      const auto equals = entry.find('=');
      auto& value = answers_[std::string(entry.substr(0, equals))];
      if (equals != std::string_view::npos) value = entry.substr(equals + 1);
    }
  }

 private:
  std::map<std::string, std::optional<std::string>> answers_;
};

/// Rank 0's node is where the user looks first; another one is named.
void print_errors(const std::vector<DeckError>& errors, const MpiEnv& mpi) {
  const std::string where =
      mpi.rank() == 0 ? "" : cat(" (on ", mpi.host(), ", rank ", mpi.rank(), ")");
  for (const DeckError& error : errors) log::error(to_string(error), where);
}

void print_doubts(const ParsedDeck& parsed) {
  for (const DeckError& doubt : find_doubts(parsed)) log::warning(to_string(doubt));
}

}  // namespace

std::optional<DeckWithText> parse_alone(const std::string& deck,
                                        const std::vector<std::string>& overrides,
                                        const DeckCheck& check) {
  DeckText read = read_deck(deck);
  if (!read.problem.empty()) {
    log::error(read.problem);
    return std::nullopt;
  }
  ParsedDeck parsed = parse_deck(deck, read.text, overrides);
  const std::vector<DeckError> errors = check(parsed);
  for (const DeckError& error : errors) log::error(to_string(error));
  if (!errors.empty()) return std::nullopt;
  print_doubts(parsed);
  return DeckWithText{std::move(read.text), std::move(parsed)};
}

std::optional<ParsedDeck> parse_on_all_ranks(const std::string& deck,
                                             const std::vector<std::string>& overrides,
                                             const MpiEnv& mpi, const DeckCheck& check) {
  const DeckText read = mpi.rank() == 0 ? read_deck(deck) : DeckText{};
  if (!mpi.broadcast(read.problem).empty()) {
    if (mpi.rank() == 0) log::error(read.problem);
    return std::nullopt;
  }
  const std::string text = mpi.broadcast(read.text);
  SharedEnvironment asked;
  if (mpi.rank() == 0) {
    parse_deck(deck, text, overrides, [&](const std::string& name) { return asked.ask(name); });
  }
  const SharedEnvironment shared(mpi.broadcast(asked.to_text()));
  ParsedDeck parsed = parse_deck(deck, text, overrides,
                                 [&](const std::string& name) { return shared.answer(name); });
  const std::vector<DeckError> errors = check(parsed);
  const std::vector<std::string> failed = mpi.all_gather(errors.empty() ? "" : "!");
  for (int rank = 0; rank < mpi.size(); ++rank) {
    if (failed[static_cast<std::size_t>(rank)].empty()) continue;
    if (rank == mpi.rank()) print_errors(errors, mpi);
    return std::nullopt;
  }
  if (mpi.rank() == 0) print_doubts(parsed);
  return parsed;
}

}  // namespace koios
