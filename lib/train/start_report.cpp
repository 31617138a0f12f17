#include "train/start_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "comm/placement.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/log.hpp"
#include "core/readable.hpp"
#include "runtime/numa.hpp"
#include "train/save_staging.hpp"
#include "train/training_memory.hpp"

namespace koios {

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
  if (splits_backward(shape.pipeline.schedule)) choices = {shape.recompute};  // it wants all kept
  std::string text;
  for (const RecomputePolicy& choice : choices) {
    TrainingShape other = shape;
    other.recompute = choice;
    text += cat(text.empty() ? "" : ", ", choice.describe(), " ",
                gib(activation_bytes(largest(plan_memory_of_stages(other)))));
  }
  return cat("activations by [activation_checkpoint]: ", text,
             "; now: ", shape.recompute.describe());
}

namespace {

/// "layers 0 to 3, 8 to 11": of each run of the stage's units.
std::string layers_of(const TrainingShape& shape, int stage) {
  const ShardLayout layout = shard_layout(shape, shape.first_rank(stage));
  std::string text;
  std::int64_t count = 0;
  for (const std::vector<int>& run : layout.runs()) {
    std::vector<std::int64_t> layers;
    for (const int unit : run) {
      if (layout.unit(unit).role == UnitRole::block) layers.push_back(layout.unit(unit).layer);
    }
    count += std::ssize(layers);
    text += cat(text.empty() ? "" : ", ", layers.front(),
                layers.size() == 1 ? "" : cat(" to ", layers.back()));
  }
  return cat(count == 1 ? "layer " : "layers ", text);
}

/// "8 + 5 micro-batches": of each run.
std::string in_flight(const StageShape& stage) {
  std::string text;
  for (const RunShape& run : stage.runs) text += cat(text.empty() ? "" : " + ", run.slots);
  return cat(text, text == "1" ? " micro-batch" : " micro-batches");
}

}  // namespace

std::vector<std::string> describe_stages(const TrainingShape& shape,
                                         const std::vector<MemoryPlan>& memory) {
  const int stages = shape.mesh.size(Axis::pp);
  std::vector<std::string> lines;
  if (stages == 1) return lines;
  const int micro_batches = shape.reduce.micro_batches;
  lines.push_back(fmt::format(
      "pipeline {}: {} stages, {}, bubble {:.1f}%", to_string(shape.pipeline.schedule), stages,
      counted(micro_batches, "micro-batch"),
      100 * bubble(shape.pipeline.schedule, stages, shape.pipeline.runs, micro_batches)));
  const std::vector<double> flops = shape.flops_of_stages();
  const double all = std::accumulate(flops.begin(), flops.end(), 0.0);
  for (int stage = 0; stage < stages; ++stage) {
    const auto number = static_cast<std::size_t>(stage);
    lines.push_back(fmt::format(
        "  stage {}: {}, {:.1f}% of the operations, {} in flight, {}, "
        "sends {} bytes a step",
        stage, layers_of(shape, stage), 100 * flops[number] / all, in_flight(shape.stage(stage)),
        gib(memory[number].total_bytes), with_commas(plan_traffic(shape, stage).pipeline_bytes)));
  }
  return lines;
}

std::vector<std::string> describe_plan(const TrainingShape& shape,
                                       std::optional<std::int64_t> device_bytes) {
  const std::vector<MemoryPlan> plans = plan_memory_of_stages(shape);
  const MemoryPlan& memory = largest(plans);
  const int stage = narrow<int>(&memory - plans.data());
  const bool has_stages = plans.size() > 1;
  std::vector<std::string> lines = describe_stages(shape, plans);
  lines.push_back(cat("memory plan per rank (", to_string(shape.backend), ", ",
                      to_string(shape.compute), " compute",
                      has_stages ? cat("; stage ", stage) : "", "):"));
  std::size_t width = 5;
  for (const auto& line : memory.lines) width = std::max(width, line.label.size());
  const auto row = [&](const std::string& label, std::int64_t bytes) {
    lines.push_back(
        fmt::format("  {:<{}} {:>16} bytes  {:>14}", label, width, with_commas(bytes), gib(bytes)));
  };
  for (const auto& line : memory.lines) row(line.label, line.bytes);
  row("total", memory.total_bytes);
  if (device_bytes) lines.push_back(cat("  of ", gib(*device_bytes), " there"));
  if (shape.async_saves) {
    row("host memory for saves",
        SaveStaging::bytes(shard_layout(shape, shape.first_rank(stage)), shape.moments));
  }
  lines.push_back(describe_recomputation(shape));
  for (std::string& line : describe_traffic("plan", plan_traffic(shape), shape.mesh)) {
    lines.push_back(std::move(line));
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

namespace {

void print_gpus(const MpiEnv& mpi, const DeviceInfo& device) {
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

void print_processors(const MpiEnv& mpi, const DeviceInfo& device) {
  const std::vector<std::string> places = mpi.all_gather(cat(mpi.host(), "  ", device.name));
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    log::info("rank ", rank, "  ", places[rank]);
  }
}

}  // namespace

void print_places(const MpiEnv& mpi, const DeviceEnv& device, const MeshShape& mesh) {
  if (device.backend() == Backend::host) {
    print_processors(mpi, device.info());
  } else {
    print_gpus(mpi, device.info());
  }
  const Placement placement = find_placement(mesh, mpi.all_gather(node_name()));
  for (const std::string& line : placement.lines) log::info(line);
  for (const std::string& line : placement.warnings) log::info("warning: ", line);
}

}  // namespace koios
