#include "core/readable.hpp"

#include <fmt/format.h>

namespace koios {

std::string gib(std::int64_t bytes) {
  return fmt::format("{:.3f} GiB", static_cast<double>(bytes) / (1 << 30));
}

std::string duration(double seconds) {
  constexpr double kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour;
  if (seconds < 0.1) return fmt::format("{:.2f} ms", 1e3 * seconds);
  if (seconds < 2 * kMinute) return fmt::format("{:.2f} s", seconds);
  if (seconds < 2 * kHour) return fmt::format("{:.1f} minutes", seconds / kMinute);
  if (seconds < 2 * kDay) return fmt::format("{:.1f} hours", seconds / kHour);
  return fmt::format("{:.3g} days", seconds / kDay);
}

std::string with_commas(std::int64_t value) {
  std::string text = std::to_string(value);
  const std::int64_t first = value < 0 ? 2 : 1;  // a comma has a digit before it
  for (std::int64_t at = std::ssize(text) - 3; at >= first; at -= 3) {
    text.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return text;
}

std::string counted(std::int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace koios
