#include "train/end_report.hpp"

#include <string>
#include <vector>

#include "comm/host_reduce.hpp"
#include "core/log.hpp"
#include "core/readable.hpp"

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

SentBytes& SentBytes::operator+=(const SentBytes& o) {
  *this = {gathered + o.gathered,
           reduced + o.reduced,
           between_replicas + o.between_replicas,
           tp_gathered + o.tp_gathered,
           tp_reduced + o.tp_reduced,
           tp_all_reduced + o.tp_all_reduced,
           tp_exchanged + o.tp_exchanged,
           between_stages + o.between_stages,
           cp_gathered + o.cp_gathered,
           cp_reduced + o.cp_reduced};
  return *this;
}

SentBytes SentBytes::operator-(const SentBytes& o) const {
  return {gathered - o.gathered,
          reduced - o.reduced,
          between_replicas - o.between_replicas,
          tp_gathered - o.tp_gathered,
          tp_reduced - o.tp_reduced,
          tp_all_reduced - o.tp_all_reduced,
          tp_exchanged - o.tp_exchanged,
          between_stages - o.between_stages,
          cp_gathered - o.cp_gathered,
          cp_reduced - o.cp_reduced};
}

SentBytes sent_bytes(const Mesh& mesh) {
  SentBytes sent;
  sent.gathered = mesh.shard_gather().traffic().all_gather_bytes;
  sent.reduced = mesh.shard_reduce().traffic().reduce_scatter_bytes;
  sent.between_replicas = mesh.replicate().traffic().all_reduce_bytes;
  for (const Link out : {Link::activations_out, Link::gradients_out}) {
    if (const Communicator* link = mesh.link(out))
      sent.between_stages += link->traffic().send_bytes;
  }
  if (mesh.context().size() > 1) {
    for (const Communicator* group : {&mesh.context(), &mesh.context_reversed()}) {
      sent.cp_gathered += group->traffic().all_gather_bytes;
      sent.cp_reduced += group->traffic().reduce_scatter_bytes;
    }
  }
  if (mesh.tp().size() == 1) return sent;
  const Traffic& tensor = mesh.tp().traffic();
  sent.tp_gathered = tensor.all_gather_bytes;
  sent.tp_reduced = tensor.reduce_scatter_bytes;
  sent.tp_all_reduced = tensor.all_reduce_bytes;
  sent.tp_exchanged = tensor.send_bytes;
  if (&mesh.world() != &mesh.tp()) sent.tp_all_reduced += mesh.world().traffic().all_reduce_bytes;
  sent.tp_all_reduced += mesh.shard_reduce().traffic().all_reduce_bytes;  // scales of weights
  return sent;
}

void print_traffic(const Mesh& mesh, const SentBytes& sent, std::int64_t steps) {
  log::info("traffic measured per rank and step: all-gather ", with_commas(sent.gathered / steps),
            " bytes, reduce-scatter ", with_commas(sent.reduced / steps), " bytes sent");
  if (mesh.replicate().size() > 1) {
    log::info("replica traffic measured per rank and step: all-reduce ",
              with_commas(sent.between_replicas / steps), " bytes sent");
  }
  if (mesh.shape().size(Axis::pp) > 1) {
    log::info("pipeline traffic measured per rank and step: ",
              with_commas(sent.between_stages / steps), " bytes sent");
  }
  if (mesh.context().size() > 1) {
    log::info("context-parallel traffic measured per rank and step: all-gather ",
              with_commas(sent.cp_gathered / steps), " bytes, reduce-scatter ",
              with_commas(sent.cp_reduced / steps), " bytes sent");
  }
  if (mesh.tp().size() == 1) return;
  log::info("tensor-parallel traffic measured per rank and step: all-gather ",
            with_commas(sent.tp_gathered / steps), " bytes, reduce-scatter ",
            with_commas(sent.tp_reduced / steps), " bytes, all-reduce ",
            with_commas(sent.tp_all_reduced / steps), " bytes, exchanges ",
            with_commas(sent.tp_exchanged / steps), " bytes sent");
}

}  // namespace koios
