#include "metrics/timers.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.hpp"

namespace koios {

Timers::Timers(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) entries_.push_back({std::string(name)});
}

Timers::Entry& Timers::entry(std::string_view name) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.name == name; });
  KOIOS_REQUIRE(found != entries_.end(), "no timer '", name, "'");
  return *found;
}

Timers::Totals Timers::totals() const {
  Totals totals;
  for (const Entry& entry : entries_) totals.emplace_back(entry.name, entry.total_s);
  return totals;
}

Timers::Totals Timers::lap() {
  Totals since;
  for (Entry& entry : entries_) {
    since.emplace_back(entry.name, entry.total_s - entry.at_last_lap_s);
    entry.at_last_lap_s = entry.total_s;
  }
  return since;
}

std::string timer_table(std::span<const TimerRow> rows, double whole_s) {
  std::size_t width = 5;
  for (const TimerRow& row : rows) width = std::max(width, row.name.size());
  std::string table = fmt::format("{:<{}} {:>11} {:>11} {:>11} {:>7}", "timer", width, "min s",
                                  "avg s", "max s", "avg %");
  for (const TimerRow& row : rows) {
    const std::string share =
        whole_s > 0 ? fmt::format("{:.1f}", 100 * row.avg_s / whole_s) : "n/a";
    table += fmt::format("\n{:<{}} {:11.3f} {:11.3f} {:11.3f} {:>7}", row.name, width, row.min_s,
                         row.avg_s, row.max_s, share);
  }
  return table;
}

}  // namespace koios
