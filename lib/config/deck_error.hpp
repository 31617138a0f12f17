// Where a value of the deck comes from, and errors that say so.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"

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

/// A value does not go with what the deck does not say, such as the tokenizer's vocabulary. Thrown
/// by all ranks alike and before a run begins; who has the deck adds the place (locate()).
class DeckValueError : public UserError {
 public:
  /// "training/seq_len": those of the value first.
  DeckValueError(std::vector<std::string> keys, const std::string& message)
      : UserError(message), keys_(std::move(keys)) {}
  const std::vector<std::string>& keys() const { return keys_; }

 private:
  std::vector<std::string> keys_;
};

/// "input/debug.ini:12: [training] sequence_len is not a key; did you mean seq_len?"
std::string to_string(const DeckError& error);

/// One error a line, each with "error: " before it and ended.
std::string to_string(const std::vector<DeckError>& errors);

/// By line of the file, then by position on the command line, then the rest; stable.
void sort_errors(std::vector<DeckError>& errors);

/// Collects errors. Beyond the first kMost they are counted only: what is no deck may have a
/// million lines.
class DeckErrors {
 public:
  static constexpr std::size_t kMost = 50;

  void add(DeckError error) {
    add(error.origin, [&] { return std::move(error.message); });
  }
  /// The message is made only where it is told.
  void add(const Origin& origin, const std::function<std::string()>& message) {
    if (told_.size() < kMost) {
      told_.push_back({origin, message()});
    } else {
      ++untold_;
    }
  }
  const std::vector<DeckError>& told() const { return told_; }
  std::int64_t untold() const { return untold_; }

 private:
  std::vector<DeckError> told_;
  std::int64_t untold_ = 0;
};

/// All of them, sorted; at most DeckErrors::kMost, and then one that counts the rest.
std::vector<DeckError> merge(std::initializer_list<const DeckErrors*> lists,
                             const std::string& deck_name);

}  // namespace koios
