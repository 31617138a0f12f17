#include "config/values.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <initializer_list>

namespace koios {
namespace {

/// from_chars on the whole text; `what` names the type in the message.
template <class T>
Problem parse_number(std::string_view text, T& value, const char* what) {
  const char* end = text.data() + text.size();
  // from_chars knows no plus sign.
  const bool plus = text.starts_with('+') && !text.starts_with("+-");
  T parsed{};
  const auto [stop, error] = std::from_chars(text.data() + (plus ? 1 : 0), end, parsed);
  if (error == std::errc::invalid_argument) return cat("not a ", what);
  if (stop != end) {
    return cat("not a ", what, ", \"", std::string(stop, end), "\" follows the number");
  }
  if (error == std::errc::result_out_of_range) return kNotHeld;
  value = parsed;
  return {};
}

}  // namespace

Problem parse_value(std::string_view text, bool& value) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto is_any_of = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), lower) != names.end();
  };
  const bool is_true = is_any_of({"true", "1", "yes", "on"});
  if (!is_true && !is_any_of({"false", "0", "no", "off"})) {
    return "not one of true, false, yes, no, on, off, 1, 0";
  }
  value = is_true;
  return {};
}

Problem parse_value(std::string_view text, std::int64_t& value) {
  return parse_number(text, value, "whole number");
}

Problem parse_value(std::string_view text, int& value) {
  return parse_number(text, value, "whole number");
}

Problem parse_value(std::string_view text, double& value) {
  double parsed = 0;
  if (const Problem problem = parse_number(text, parsed, "number"); !problem.empty()) {
    return problem;
  }
  if (!std::isfinite(parsed)) return "not a finite number";
  value = parsed;
  return {};
}

Problem parse_value(std::string_view text, std::string& value) {
  value = text;
  return {};
}

Problem parse_value(std::string_view text, std::filesystem::path& value) {
  value = text;
  return {};
}

Problem parse_value(std::string_view text, std::vector<int>& value) {
  std::vector<int> parsed;
  if (text.empty()) {
    value = parsed;
    return {};
  }
  while (true) {
    const auto comma = text.find(',');
    std::string_view item = text.substr(0, comma);
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    int number = 0;
    if (!parse_value(item, number).empty() || number < 0) {
      return "not a list of whole numbers such as 0,3,5";
    }
    parsed.push_back(number);
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  value = parsed;
  return {};
}

Problem parse_value(std::string_view text, RankList& value) {
  RankList parsed{{}, text == "all"};
  if (!parsed.is_all) {
    const Problem problem = parse_value(text, parsed.ranks);
    if (!problem.empty()) return problem + ", nor all";
  }
  value = parsed;
  return {};
}

bool RankList::has(int rank) const {
  return is_all || std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}

std::string show_value(bool value) { return value ? "true" : "false"; }
std::string show_value(int value) { return std::to_string(value); }
std::string show_value(std::int64_t value) { return std::to_string(value); }

std::string show_value(double value) {
  char buffer[32];
  const auto result =
      std::to_chars(buffer, buffer + sizeof buffer, value);  // shortest that returns
  return {buffer, result.ptr};
}

std::string show_value(const std::string& value) { return value; }

std::string show_value(const std::filesystem::path& value) {
  std::string text = value.string().starts_with('~') ? "./" : "";
  for (const char c : value.string()) {
    if (c == '$') text += '\\';
    text += c;
  }
  return text;
}

std::string show_value(const std::vector<int>& value) {
  std::string text;
  for (const int number : value) text += cat(text.empty() ? "" : ",", number);
  return text;
}

std::string show_value(const RankList& value) {
  return value.is_all ? "all" : show_value(value.ranks);
}

std::string join_names(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    text += cat(text.empty() ? "" : ", ", name.empty() ? "(empty)" : name);
  }
  return text;
}

}  // namespace koios
