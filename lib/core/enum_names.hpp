// Names of enumerators, as decks and messages have them: one table per enum, used in both
// directions.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace koios {

/// An enum takes part by having `constexpr auto names_of(E)` in its namespace: an array of
/// {value, name} pairs with every enumerator once.
template <class E, std::size_t N>
using EnumTable = std::array<std::pair<E, std::string_view>, N>;

template <class E>
concept NamedEnum = requires(E value) {
  names_of(value)[0].second;
};

template <NamedEnum E>
constexpr std::string_view to_string(E value) {
  for (const auto& [known, name] : names_of(E{})) {
    if (known == value) return name;
  }
  return "?";
}

template <NamedEnum E>
constexpr std::optional<E> from_string(std::string_view text) {
  for (const auto& [value, name] : names_of(E{})) {
    if (name == text) return value;
  }
  return std::nullopt;
}

}  // namespace koios
