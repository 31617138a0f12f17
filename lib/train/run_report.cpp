#include "train/run_report.hpp"

#include <string>
#include <vector>

#include "comm/host_reduce.hpp"
#include "core/log.hpp"
#include "train/plan_report.hpp"

namespace koios {

void print_timers(const Timers& timers, const Mesh& mesh, double whole_s) {
  const Timers::Totals totals = timers.totals();
  std::vector<double> lowest;
  for (const auto& [name, seconds] : totals) lowest.push_back(seconds);
  std::vector<double> sum = lowest;
  std::vector<double> highest = lowest;
  all_reduce_min(mesh.host_world(), lowest);
  all_reduce_sum(mesh.host_world(), sum);
  all_reduce_max(mesh.host_world(), highest);
  std::vector<TimerRow> rows;
  for (std::size_t i = 0; i < totals.size(); ++i) {
    if (highest[i] == 0) continue;
    rows.push_back({totals[i].first, lowest[i], sum[i] / mesh.size(), highest[i]});
  }
  log::info("where the time went:\n", timer_table(rows, whole_s));
}

void print_traffic(const Mesh& mesh, std::int64_t steps) {
  const std::int64_t gathered = mesh.shard_gather().traffic().all_gather_bytes;
  const std::int64_t reduced = mesh.shard_reduce().traffic().reduce_scatter_bytes;
  log::info("traffic measured per rank and step: all-gather ", with_commas(gathered / steps),
            " bytes, reduce-scatter ", with_commas(reduced / steps), " bytes sent");
  if (mesh.tp().size() == 1) return;
  const Traffic& tensor = mesh.tp().traffic();
  std::int64_t all_reduced = tensor.all_reduce_bytes;
  if (&mesh.stage() != &mesh.tp()) all_reduced += mesh.stage().traffic().all_reduce_bytes;
  log::info("tensor-parallel traffic measured per rank and step: all-gather ",
            with_commas(tensor.all_gather_bytes / steps), " bytes, reduce-scatter ",
            with_commas(tensor.reduce_scatter_bytes / steps), " bytes, all-reduce ",
            with_commas(all_reduced / steps), " bytes sent");
}

}  // namespace koios
