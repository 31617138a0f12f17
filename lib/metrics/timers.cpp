#include "metrics/timers.hpp"

#include <algorithm>
#include <cstdio>

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
  int width = 5;
  for (const TimerRow& row : rows) width = std::max(width, static_cast<int>(row.name.size()));
  char line[512];
  std::snprintf(line, sizeof line, "%-*s %11s %11s %11s %7s", width, "timer", "min s", "avg s",
                "max s", "avg %");
  std::string table = line;
  for (const TimerRow& row : rows) {
    std::snprintf(line, sizeof line, "\n%-*s %11.3f %11.3f %11.3f ", width, row.name.c_str(),
                  row.min_s, row.avg_s, row.max_s);
    table += line;
    if (whole_s > 0) {
      std::snprintf(line, sizeof line, "%7.1f", 100 * row.avg_s / whole_s);
    } else {
      std::snprintf(line, sizeof line, "%7s", "n/a");
    }
    table += line;
  }
  return table;
}

}  // namespace koios
