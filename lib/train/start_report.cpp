#include "train/start_report.hpp"

#include <algorithm>
#include <cstdio>

#include "core/error.hpp"
#include "core/log.hpp"
#include "runtime/numa.hpp"
#include "train/save_staging.hpp"
#include "train/training_memory.hpp"

namespace koios {

std::string with_commas(std::int64_t value) {
  const std::string digits = std::to_string(value);
  const std::size_t sign = value < 0 ? 1 : 0;
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const bool group = i > sign && (digits.size() - i) % 3 == 0;
    if (group) text += ',';
    text += digits[i];
  }
  return text;
}

std::string gib(std::int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

std::string describe_model(const std::string& name, const ModelSpec& m) {
  return cat("model ", name, ": ", with_commas(parameter_count(m)), " parameters, ", m.n_layers,
             " layers, dim ", m.dim, ", heads ", m.n_heads, "/", m.n_kv_heads, ", ffn ", m.ffn_dim,
             ", vocabulary ", m.vocab_size);
}

std::string describe_recomputation(const TrainingShape& shape) {
  std::vector<RecomputePolicy> choices = {{Recompute::none, 1},
                                          {Recompute::op, 1},
                                          {Recompute::op_half, 1},
                                          {Recompute::full, 2},
                                          {Recompute::full, 1}};
  if (std::find(choices.begin(), choices.end(), shape.recompute) == choices.end()) {
    choices.insert(choices.end() - 1, shape.recompute);
  }
  std::string text;
  for (const RecomputePolicy& choice : choices) {
    TrainingShape other = shape;
    other.recompute = choice;
    text += cat(text.empty() ? "" : ", ", choice.describe(), " ",
                gib(activation_bytes(plan_memory(other))));
  }
  return cat("activations by [activation_checkpoint]: ", text,
             "; now: ", shape.recompute.describe());
}

std::vector<std::string> describe_plan(const TrainingShape& shape, const MemoryPlan& memory,
                                       const TrafficPlan& traffic,
                                       std::optional<std::int64_t> device_bytes) {
  std::vector<std::string> lines;
  lines.push_back(cat("memory plan per rank (", to_string(shape.backend), ", ",
                      to_string(shape.compute), " compute):"));
  std::size_t width = 5;
  for (const auto& line : memory.lines) width = std::max(width, line.label.size());
  const auto row = [&](const std::string& label, std::int64_t bytes) {
    char text[96];
    std::snprintf(text, sizeof text, "  %-*s %16s bytes  %10.3f GiB", static_cast<int>(width),
                  label.c_str(), with_commas(bytes).c_str(),
                  static_cast<double>(bytes) / (1 << 30));
    lines.emplace_back(text);
  };
  for (const auto& line : memory.lines) row(line.label, line.bytes);
  row("total", memory.total_bytes);
  if (device_bytes) lines.push_back(cat("  of ", gib(*device_bytes), " there"));
  if (shape.async_saves) {
    row("host memory for saves", SaveStaging::bytes(shard_layout(shape, 0)));
  }
  lines.push_back(describe_recomputation(shape));
  lines.push_back(cat("traffic plan per rank and step: all-gather ",
                      with_commas(traffic.all_gather_bytes), " bytes, reduce-scatter ",
                      with_commas(traffic.reduce_scatter_bytes), " bytes sent"));
  if (shape.tensor.ranks > 1) {
    lines.push_back(cat("tensor-parallel traffic plan per rank and step: all-gather ",
                        with_commas(traffic.tensor_all_gather_bytes), " bytes, reduce-scatter ",
                        with_commas(traffic.tensor_reduce_scatter_bytes), " bytes, all-reduce ",
                        with_commas(traffic.all_reduce_bytes), " bytes, exchanges ",
                        with_commas(traffic.tensor_send_bytes), " bytes sent"));
  }
  return lines;
}

std::string far_gpu_problem(int gpu_node, const std::vector<int>& core_nodes) {
  const bool is_near =
      std::find(core_nodes.begin(), core_nodes.end(), gpu_node) != core_nodes.end();
  if (gpu_node < 0 || core_nodes.empty() || is_near) return "";
  std::string nodes;
  for (const int node : core_nodes) nodes += cat(nodes.empty() ? "" : ",", node);
  return cat("its GPU is on NUMA node ", gpu_node, ", its cores on ", nodes,
             ": bind it nearer (mpirun --bind-to none or --map-by numa, srun --gpu-bind=closest)");
}

void print_places(const MpiEnv& mpi, const DeviceEnv& env) {
  const DeviceInfo& device = env.info();
  if (env.backend() == Backend::host) {
    const std::vector<std::string> places = mpi.all_gather(cat(mpi.host(), "  ", device.name));
    for (std::size_t rank = 0; rank < places.size(); ++rank) {
      log::info("rank ", rank, "  ", places[rank]);
    }
    return;
  }
  const std::vector<std::string> places =
      mpi.all_gather(cat(mpi.host(), "  ", device.name, "  ", device.uuid, "  pci ", device.pci_bus,
                         "  numa ", device.numa_node));
  const std::vector<std::string> uuids = mpi.all_gather(device.uuid);
  const std::vector<std::string> problems =
      mpi.all_gather(far_gpu_problem(device.numa_node, numa_nodes_of_affinity()));
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    log::info("rank ", rank, "  ", places[rank]);
    const auto first = std::find(uuids.begin(), uuids.end(), uuids[rank]) - uuids.begin();
    if (static_cast<std::size_t>(first) < rank) {
      log::info("warning: ranks ", first, " and ", rank, " share a GPU; start one rank per GPU");
    }
    if (!problems[rank].empty()) log::info("warning: rank ", rank, ": ", problems[rank]);
  }
}

}  // namespace koios
