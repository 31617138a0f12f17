#include "train/end_report.hpp"

#include <vector>

#include "comm/host_reduce.hpp"
#include "core/log.hpp"

namespace koios {

void print_timers(const Timers& timers, const Mesh& mesh, double whole_s) {
  const Timers::Totals totals = timers.totals();
  std::vector<double> lowest;
  for (const auto& [name, seconds] : totals) lowest.push_back(seconds);
  std::vector<double> sum = lowest;
  std::vector<double> highest = lowest;
  all_reduce_min(mesh.host_world(), lowest);
  all_reduce_sum(mesh.host_world(), sum);
  highest.push_back(whole_s);  // the ranks do not begin at the same instant
  all_reduce_max(mesh.host_world(), highest);
  std::vector<TimerRow> rows;
  for (std::size_t i = 0; i < totals.size(); ++i) {
    if (highest[i] == 0) continue;
    rows.push_back({totals[i].first, lowest[i], sum[i] / mesh.size(), highest[i]});
  }
  log::info("where the time went:\n", timer_table(rows, highest.back()));
}

}  // namespace koios
