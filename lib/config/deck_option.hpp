// One key of the deck: where its value goes, what it may be, and what --help-deck says of it.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/deck.hpp"
#include "config/expand.hpp"
#include "config/values.hpp"

namespace koios {

/// A key whatever its type: what the schema works with.
class DeckOption {
 public:
  DeckOption(std::string section, std::string key, std::string default_text)
      : section_(std::move(section)), key_(std::move(key)), default_(std::move(default_text)) {}
  virtual ~DeckOption() = default;

  /// Takes the value, with what a path holds of the environment, or leaves the old one and says
  /// why.
  virtual Problem assign(std::string_view text, const Environment& environment) = 0;
  /// The present value as a deck writes it.
  virtual std::string show() const = 0;
  /// Type and limits, for the reference table.
  virtual std::string allowed() const = 0;

  const std::string& section() const { return section_; }
  const std::string& key() const { return key_; }
  const std::string& unit() const { return unit_; }
  const std::string& help() const { return help_; }
  const std::string& default_text() const { return default_; }

  Origin origin;        // of the present value
  bool failed = false;  // a value was given and refused

 protected:
  std::string section_, key_, unit_, help_, default_;
};

template <class T>
class TypedOption final : public DeckOption {
 public:
  /// The default is what `target` holds.
  TypedOption(std::string section, std::string key, T* target)
      : DeckOption(std::move(section), std::move(key), show_value(*target)), target_(target) {}

  TypedOption& unit(std::string text) { return set(unit_, std::move(text)); }
  TypedOption& help(std::string text) { return set(help_, std::move(text)); }
  /// Least and greatest value, both allowed.
  TypedOption& range(T low, T high) { return set(range_, std::pair(low, high)); }
  TypedOption& one_of(std::vector<T> values) { return set(one_of_, std::move(values)); }
  TypedOption& may_be_empty() { return set(may_be_empty_, true); }

  Problem assign(std::string_view text, const Environment& environment) override {
    if (text.empty() && !may_be_empty_) return "has no value";
    T value{};
    Problem problem = parse_value(text, value);
    if (range_ && (problem == kNotHeld || (problem.empty() && !in_range(value)))) {
      problem = cat("outside ", show_range(), unit_.empty() ? "" : " ", unit_);
    }
    if (!one_of_.empty() && (!problem.empty() || !contains(one_of_, value))) {
      problem = cat("not one of ", join_names(shown(one_of_)));
    }
    if (problem.empty()) problem = expand_value(value, environment);
    if (problem.empty()) problem = value_problem(show_value(value));
    if (problem.empty()) *target_ = value;
    return problem;
  }

  std::string show() const override { return show_value(*target_); }

  std::string allowed() const override {
    const auto values = one_of_.empty() ? all_values<T>() : shown(one_of_);
    if (!values.empty()) return join_names(values);
    return range_ ? cat(type_name<T>(), ", ", show_range()) : type_name<T>();
  }

 private:
  template <class Field, class Value>
  TypedOption& set(Field& field, Value value) {
    field = std::move(value);
    return *this;
  }
  template <class V>
  static bool contains(const std::vector<V>& values, const V& value) {
    return std::find(values.begin(), values.end(), value) != values.end();
  }
  static std::vector<std::string> shown(const std::vector<T>& values) {
    std::vector<std::string> texts;
    for (const T& value : values) texts.push_back(show_value(value));
    return texts;
  }
  bool in_range(const T& value) const { return range_->first <= value && value <= range_->second; }
  std::string show_range() const {
    return cat(show_value(range_->first), " ... ", show_value(range_->second));
  }

  T* target_;
  std::optional<std::pair<T, T>> range_;
  std::vector<T> one_of_;
  bool may_be_empty_ = false;
};

}  // namespace koios
