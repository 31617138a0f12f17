// Text of the deck to values and back. parse_value() takes the whole text or says why not;
// show_value() writes what parse_value() reads back to the same value, bit for bit.
#pragma once

#include <compare>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/enum_names.hpp"
#include "core/error.hpp"

namespace koios {

/// Ranks that a key names, or all.
struct RankList {
  std::vector<int> ranks;
  bool is_all = false;

  bool has(int rank) const;
  auto operator<=>(const RankList&) const = default;
};

/// Why a text is not a value of the type; empty where it is.
using Problem = std::string;

/// The problem of a number beyond what its type holds.
inline constexpr const char* kNotHeld = "too large or too small to be held";

Problem parse_value(std::string_view text, bool& value);
Problem parse_value(std::string_view text, int& value);
Problem parse_value(std::string_view text, std::int64_t& value);
Problem parse_value(std::string_view text, double& value);
Problem parse_value(std::string_view text, std::string& value);
Problem parse_value(std::string_view text, std::filesystem::path& value);
Problem parse_value(std::string_view text, std::vector<int>& value);  // 0,3,5
Problem parse_value(std::string_view text, RankList& value);          // or all

std::string show_value(bool value);
std::string show_value(int value);
std::string show_value(std::int64_t value);
std::string show_value(double value);
std::string show_value(const std::string& value);
/// With "\$" for a dollar sign and "./" before a first "~": see expand.hpp.
std::string show_value(const std::filesystem::path& value);
std::string show_value(const std::vector<int>& value);
std::string show_value(const RankList& value);

/// "rmsnorm, fused_rmsnorm"; an empty name is shown as (empty).
std::string join_names(const std::vector<std::string>& names);

template <NamedEnum E>
std::vector<std::string> all_names() {
  std::vector<std::string> names;
  for (const auto& [value, name] : names_of(E{})) names.emplace_back(name);
  return names;
}

template <NamedEnum E>
Problem parse_value(std::string_view text, E& value) {
  const auto found = from_string<E>(text);
  if (!found) return cat("not one of ", join_names(all_names<E>()));
  value = *found;
  return {};
}

template <NamedEnum E>
std::string show_value(E value) {
  return std::string(to_string(value));
}

/// Or auto, which is no value.
template <class T>
Problem parse_value(std::string_view text, std::optional<T>& value) {
  T parsed{};
  const Problem problem = text == "auto" ? "" : parse_value(text, parsed);
  if (!problem.empty()) return problem + ", nor auto";
  value = text == "auto" ? std::nullopt : std::optional(parsed);
  return {};
}
template <class T>
std::string show_value(const std::optional<T>& value) {
  return value ? show_value(*value) : "auto";
}

/// The values of a type that has few; empty for the others.
template <class T>
std::vector<std::string> all_values() {
  if constexpr (NamedEnum<T>) return all_names<T>();
  if constexpr (std::is_same_v<T, bool>) return {"true", "false"};
  if constexpr (std::is_same_v<T, std::optional<bool>>) return {"auto", "true", "false"};
  return {};
}

/// What the reference table calls a type that has many values.
template <class T>
std::string type_name() {
  if constexpr (std::is_integral_v<T>) return "whole number";
  if constexpr (std::is_floating_point_v<T>) return "number";
  if constexpr (std::is_same_v<T, std::filesystem::path>) return "path";
  if constexpr (std::is_same_v<T, std::vector<int>>) return "whole numbers";
  if constexpr (std::is_same_v<T, RankList>) return "whole numbers, or all";
  return "text";
}

}  // namespace koios
