#include "app/deck_agreement.hpp"

#include <map>
#include <sstream>
#include <utility>

#include "config/deck.hpp"
#include "config/named_data.hpp"
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

/// What rank 0 was told of its environment or its file system, so that all ranks get the same
/// answers: other nodes may have other variables, and need not search where one has searched.
class SharedAnswers {
 public:
  SharedAnswers() = default;
  explicit SharedAnswers(const std::string& text) {
    std::istringstream in(text);
    std::string value;
    for (std::string name; std::getline(in, name, '\0') && std::getline(in, value, '\0');) {
      if (value.empty()) continue;
      answers_[name] = value.substr(1);
    }
  }

  std::optional<std::string> note(const std::string& name, std::optional<std::string> answer) {
    return answers_[name] = std::move(answer);
  }
  std::optional<std::string> answer(const std::string& name) const {
    const auto at = answers_.find(name);
    return at == answers_.end() ? std::nullopt : at->second;
  }

  /// Neither variables nor paths have a zero byte.
  std::string to_text() const {
    std::string text;
    for (const auto& [name, value] : answers_) {
      text += cat(name, '\0', value ? cat('=', *value) : "", '\0');
    }
    return text;
  }

 private:
  std::map<std::string, std::optional<std::string>> answers_;
};

ParsedDeck parse_by_rank_0(const std::string& deck, const std::string& text,
                           const std::vector<std::string>& overrides, const MpiEnv& mpi) {
  SharedAnswers asked;
  if (mpi.rank() == 0) {
    parse_deck(deck, text, overrides, [&](const std::string& name) {
      return asked.note(name, process_environment(name));
    });
  }
  const SharedAnswers shared(mpi.broadcast(asked.to_text()));
  return parse_deck(deck, text, overrides,
                    [&](const std::string& name) { return shared.answer(name); });
}

std::vector<DeckError> check_by_rank_0(const ParsedDeck& parsed, const DeckCheck& check,
                                       const MpiEnv& mpi) {
  SharedAnswers seen;
  std::vector<DeckError> errors;
  if (mpi.rank() == 0) {
    errors = check(parsed, [&](const std::string& path) {
      const DataLook look = look_for_data(path);
      seen.note(path, look.example);
      return look.problem;
    });
  }
  const SharedAnswers shared(mpi.broadcast(seen.to_text()));
  if (mpi.rank() > 0) {
    errors = check(parsed, [&](const std::string& path) -> std::string {
      const std::string example = shared.answer(path).value_or(path);
      const std::string problem = example_problem(example);
      return problem.empty() || example == path ? problem : cat(example, ": ", problem);
    });
  }
  return errors;
}

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

std::optional<DeckWithText> parse_alone(
    const std::string& deck, const std::vector<std::string>& overrides,
    const std::function<std::vector<DeckError>(const ParsedDeck&)>& check) {
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
  ParsedDeck parsed = parse_by_rank_0(deck, text, overrides, mpi);
  const std::vector<DeckError> errors = check_by_rank_0(parsed, check, mpi);
  const std::vector<std::string> failed = mpi.all_gather(errors.empty() ? "" : "!");
  for (int rank = 0; rank < mpi.size(); ++rank) {
    if (failed[static_cast<std::size_t>(rank)].empty()) continue;
    if (rank == mpi.rank()) print_errors(errors, mpi);
    return std::nullopt;
  }
  if (mpi.rank() == 0) print_doubts(parsed);
  return parsed;
}

ExitCode with_deck(const ParsedDeck& parsed, const std::function<ExitCode()>& program) {
  try {
    return program();
  } catch (const DeckValueError& error) {
    if (log::settings().rank == 0) log::error(to_string(locate(parsed, error)));
    return ExitCode::bad_input;
  }
}

}  // namespace koios
