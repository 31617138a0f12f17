#include "config/wall_time.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <vector>

namespace koios {
namespace {

constexpr const char* kForms = "not a time: minutes, MM:SS, HH:MM:SS or D-HH:MM:SS";
constexpr std::int64_t kDay = 24 * 3600;

/// "1:30:00" as {1, 30, 0}; empty where a part is not a short row of digits.
std::vector<std::int64_t> numbers(std::string_view text) {
  std::vector<std::int64_t> parts;
  while (true) {
    const std::size_t end = std::min(text.find(':'), text.size());
    const std::string_view part = text.substr(0, end);
    const bool is_number =
        !part.empty() && part.size() <= 9 &&
        std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
    if (!is_number) return {};
    parts.push_back(std::stoll(std::string(part)));
    if (end == text.size()) return parts;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

Problem parse_value(std::string_view text, WallTime& value) {
  const std::size_t dash = text.find('-');
  const bool has_days = dash != std::string_view::npos;
  const auto days = has_days ? numbers(text.substr(0, dash)) : std::vector<std::int64_t>{0};
  const auto parts = numbers(has_days ? text.substr(dash + 1) : text);
  if (days.size() != 1 || parts.empty() || parts.size() > 3) return kForms;
  // The first number is hours after days and in HH:MM:SS, otherwise minutes.
  std::int64_t unit = has_days || parts.size() == 3 ? 3600 : 60;
  std::int64_t seconds = days[0] * kDay;
  for (std::size_t i = 0; i < parts.size(); ++i, unit /= 60) {
    if (i > 0 && parts[i] > 59) return cat(kForms, "; ", parts[i], " is above 59");
    seconds += parts[i] * unit;
  }
  value.seconds = seconds;
  return {};
}

std::string show_value(const WallTime& value) {
  if (value.seconds == 0) return "0";
  const std::int64_t days = value.seconds / kDay;
  return fmt::format("{}{:02}:{:02}:{:02}", days > 0 ? cat(days, "-") : "",
                     value.seconds % kDay / 3600, value.seconds % 3600 / 60, value.seconds % 60);
}

}  // namespace koios
