// The registry of keys: every key is declared once, with the place its value goes to. From it come
// the checks of a deck, the reference table and the effective deck.
//
//   schema.add("training", "seq_len", &c.seq_len).unit("tokens").range(1, 1 << 20).help("...");
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/deck.hpp"
#include "config/deck_option.hpp"

namespace koios {

/// A key that some deck may hold but this version does not take.
struct AbsentKey {
  std::string section;
  std::string key;
  std::string reason;  // "is not a key of Koios: ..."
};

class DeckSchema {
 public:
  /// The default is the present value of `target`, which must outlive the schema.
  template <class T>
  TypedOption<T>& add(std::string section, std::string key, T* target) {
    auto option = std::make_unique<TypedOption<T>>(std::move(section), std::move(key), target);
    TypedOption<T>& declared = *option;
    options_.push_back(std::move(option));
    return declared;
  }
  void add_absent(AbsentKey key) { absent_.push_back(std::move(key)); }

  /// Sets all that can be set, entries of the command line over those of the file; everything that
  /// cannot is an error. A value of the file that the command line replaces is not looked at.
  DeckErrors apply(const Deck& file, const Deck& overrides, const Environment& environment);

  /// Null where there is no such key.
  DeckOption* find(const std::string& section, const std::string& key) const;
  const std::vector<std::unique_ptr<DeckOption>>& options() const { return options_; }
  const std::vector<AbsentKey>& absent() const { return absent_; }
  /// In order of declaration, those of absent keys last.
  std::vector<std::string> sections() const;

 private:
  std::string unknown_section(const std::string& section) const;
  std::string unknown_key(const std::string& section, const std::string& key) const;

  std::vector<std::unique_ptr<DeckOption>> options_;
  std::vector<AbsentKey> absent_;
};

}  // namespace koios
