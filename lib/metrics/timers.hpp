// Named stopwatches that add up, and the table of their minimum, mean and maximum over the ranks.
// The names are given once, so every rank has the same timers in the same order.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/stopwatch.hpp"

namespace koios {

/// One thread's. Timers may nest; each counts its own whole time.
class Timers {
 public:
  using Totals = std::vector<std::pair<std::string, double>>;  // name, seconds

  /// Adds the time from its construction to its end.
  class [[nodiscard]] Scope {
   public:
    explicit Scope(double& seconds) : seconds_(seconds) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { seconds_ += watch_.seconds(); }

   private:
    double& seconds_;
    Stopwatch watch_;
  };

  explicit Timers(std::initializer_list<std::string_view> names);
  Timers(const Timers&) = delete;  // scopes refer to it
  Timers& operator=(const Timers&) = delete;

  /// `auto t = timers.scope("data");` An unknown name is a defect.
  Scope scope(std::string_view name) { return Scope(entry(name).total_s); }
  void add(std::string_view name, double seconds) { entry(name).total_s += seconds; }

  /// Seconds since construction, in the order of the names.
  Totals totals() const;
  /// Seconds since the last lap (or construction), in the order of the names.
  Totals lap();
  double total(std::string_view name) { return entry(name).total_s; }

 private:
  struct Entry {
    std::string name;
    double total_s = 0;
    double at_last_lap_s = 0;
  };
  Entry& entry(std::string_view name);
  std::vector<Entry> entries_;
};

struct TimerRow {
  std::string name;
  double min_s, avg_s, max_s;  // over the ranks
};

/// A heading and one line a timer, longest names deciding the width; the last column is the mean's
/// share of `whole_s`. No newline at the end.
std::string timer_table(std::span<const TimerRow> rows, double whole_s);

}  // namespace koios
