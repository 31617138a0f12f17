#include "train/trainer.hpp"

#include <algorithm>
#include <fstream>
#include <memory>

#include "comm/host_reduce.hpp"
#include "comm/mesh.hpp"
#include "comm/watchdog.hpp"
#include "core/integers.hpp"
#include "core/log.hpp"
#include "data/data_loader.hpp"
#include "data/tokenizer.hpp"
#include "metrics/console.hpp"
#include "metrics/provenance.hpp"
#include "metrics/run_folder.hpp"
#include "metrics/terminal.hpp"
#include "shard/parameters.hpp"
#include "train/flops.hpp"
#include "train/plan_report.hpp"
#include "train/step.hpp"
#include "train/step_log.hpp"

namespace koios {
namespace {

DataOptions data_options(const RunConfig& config, std::int64_t vocab_size) {
  DataOptions options;
  options.format = config.data.dataset == DatasetKind::jsonl ? DataFormat::jsonl : DataFormat::text;
  options.path = config.data.dataset_path;
  options.seq_len = config.training.seq_len;
  options.batch_size = config.training.batch_size;
  options.gradient_accumulation = config.training.gradient_accumulation_steps;
  options.seed = static_cast<std::uint64_t>(config.job.seed);
  options.shuffle = config.data.shuffle;
  options.shuffle_window = config.data.shuffle_window;
  options.streams = config.data.streams;
  options.vocab_size = vocab_size;
  return options;
}

/// Rank 0's files: the run folder, held for as long as this lives, and the metrics.
struct RunOutput {
  RunFolder folder;
  MetricsWriter metrics;

  RunOutput(const RunConfig& config, const Launch& launch, const std::vector<std::string>& hosts)
      : folder(config.job.dump_folder), metrics(folder) {
    const auto path = folder.file("effective.ini");
    std::ofstream out(path);
    out << launch.effective_deck;
    if (!out.flush()) throw UserError(cat("cannot write ", path.string()));
    write_provenance(folder, {.command_line = launch.command_line,
                              .libraries = launch.library_versions,
                              .hosts = hosts,
                              .threads_per_rank = DeviceEnv::host_threads()});
  }
};

/// Minimum, mean and maximum of each timer over the ranks, printed by rank 0.
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
    rows.push_back({totals[i].first, lowest[i], sum[i] / mesh.size(), highest[i]});
  }
  log::info("where the time went:\n", timer_table(rows, whole_s));
}

void print_traffic(const Mesh& mesh, std::int64_t steps) {
  const std::int64_t gathered = mesh.shard_gather().traffic().all_gather_bytes;
  const std::int64_t reduced = mesh.shard_reduce().traffic().reduce_scatter_bytes;
  log::info("traffic measured per rank and step: all-gather ", with_commas(gathered / steps),
            " bytes, reduce-scatter ", with_commas(reduced / steps), " bytes sent");
}

CommOptions comm_options(const RunConfig& config) {
  return {.init_timeout_s = static_cast<double>(config.comm.init_timeout_seconds),
          .train_timeout_s = static_cast<double>(config.comm.train_timeout_seconds),
          .trace_buf_size = narrow<int>(config.comm.trace_buf_size)};
}

/// Where each rank runs, one line a rank; warns where two ranks share a GPU.
void print_places(const Launch& launch) {
  const DeviceInfo& device = launch.device.info();
  const bool on_gpu = launch.device.backend() == Backend::cuda;
  const std::vector<std::string> uuids = launch.mpi.all_gather(device.uuid);
  const std::vector<std::string> places =
      launch.mpi.all_gather(on_gpu ? cat(launch.mpi.host(), "  ", device.name, "  ", device.uuid,
                                         "  pci ", device.pci_bus, "  numa ", device.numa_node)
                                   : cat(launch.mpi.host(), "  ", device.name));
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    log::info("rank ", rank, "  ", places[rank]);
    const auto first = std::find(uuids.begin(), uuids.end(), uuids[rank]) - uuids.begin();
    if (on_gpu && static_cast<std::size_t>(first) < rank) {
      log::info("warning: ranks ", first, " and ", rank, " share a GPU; start one rank per GPU");
    }
  }
}

template <class T>
void train(const RunConfig& config, const TrainingShape& shape, const Mesh& mesh,
           const Launch& launch, const Tokenizer& tokenizer, const MemoryPlan& plan) {
  const Backend backend = shape.backend;
  const std::int64_t steps = config.training.steps;
  const std::int64_t log_freq = config.metrics.log_freq;
  const bool is_root = mesh.rank() == 0;

  const std::vector<std::string> hosts = launch.mpi.all_gather(launch.mpi.host());
  const auto output = is_root ? std::make_unique<RunOutput>(config, launch, hosts) : nullptr;
  barrier(mesh.host_world());  // the folder is there for every rank

  Arena arena(backend, plan);
  const ShardLayout layout = shard_layout(shape, mesh.rank());
  const TrainingMemory<T> memory(arena, shape, layout);
  KOIOS_REQUIRE(arena.taken().total_bytes == plan.total_bytes, "the plan says ", plan.total_bytes,
                " bytes, ", arena.taken().total_bytes, " were used");

  launch.start.done("memory");

  TrainingStreams streams(backend);
  MathHandles math(backend, shape.math, memory.library_workspace);
  initialize_parameters(streams.compute, layout, memory.parameters.master,
                        static_cast<std::uint64_t>(config.job.seed));
  TrainStep<T> step(config, shape, layout, memory, math, mesh, streams);
  DataLoader data(data_options(config, shape.model.vocab_size), tokenizer,
                  shape.mesh.dp_coordinate(mesh.rank()), shape.mesh.dp());

  const NextBatch next_batch = [&] { return data.next(); };

  launch.start.done("model and data");

  Console console({.shown = is_root,
                   .color = log::settings().color,
                   .progress = is_root && stdout_is_terminal(),
                   .first_step = 0,
                   .steps = steps});
  StepResults results(backend, std::min<std::int64_t>(log_freq, 1024),
                      shape.micro_batch.tokens() * shape.micro_batches);
  StepLog step_log(shape, mesh,
                   {.steps = steps,
                    .arena_bytes = plan.total_bytes,
                    .device_bytes = launch.device.info().memory_bytes,
                    .peak_flops = peak_flops(launch.device.info().name)},
                   output ? &output->metrics : nullptr, console);
  Timers timers({"data", "communication", "step", "log"});
  Watchdog watchdog(mesh, comm_options(config), config.job.dump_folder);
  std::int64_t epoch = 0;
  Stopwatch whole;

  for (std::int64_t done = 0; done < steps; ++done) {
    const std::int64_t number = done + 1;
    {
      const auto timer = timers.scope("step");
      const double before_s = mesh.host_seconds();
      step.run(done, next_batch, results, timers);
      timers.add("communication", mesh.host_seconds() - before_s);
    }
    const bool due = number == 1 || number % log_freq == 0 || number == steps;
    if (due || results.full()) {
      const auto timer = timers.scope("log");
      step_log.add(results.read(), number, config.training.on_nonfinite);
      if (due) {
        step_log.write(number, step.lr(done), launch.device.reserved_bytes(),
                       step.exposed_wait_seconds(), timers);
        if (number == 1) {
          launch.start.done("first step");
          log::info("first step done ", launch.start.total_seconds(),
                    " s after launch: ", launch.start.describe());
        }
      }
    }
    if (data.epoch() > epoch) {
      epoch = data.epoch();
      log::info("step ", number, ": the data starts again, epoch ", epoch + 1);
    }
    console.progress(number);
    watchdog.beat();
  }
  console.clear_progress();
  print_timers(timers, mesh, whole.seconds());
  if (steps > 0) print_traffic(mesh, steps);
  if (output) {
    log::info("metrics: ", output->folder.file("metrics.jsonl").string());
  }
}

}  // namespace

void run_training(const RunConfig& config, const MeshShape& mesh_shape, const Launch& launch) {
  const std::unique_ptr<Tokenizer> tokenizer =
      load_sentencepiece(config.model.tokenizer_path.string());
  const std::int64_t vocab_size =
      config.model.vocab_size > 0 ? config.model.vocab_size : tokenizer->vocab_size();
  if (tokenizer->vocab_size() > vocab_size) {
    throw UserError(cat("[model] vocab_size = ", vocab_size, " is smaller than the tokenizer's ",
                        tokenizer->vocab_size(), " pieces (", config.model.tokenizer_path.string(),
                        "); set it to 0 or to at least that"));
  }
  const TrainingShape shape =
      training_shape(config, mesh_shape, launch.device.backend(), vocab_size);
  const MemoryPlan plan = plan_memory(shape);

  log::info(config.job.description);
  log::info("mesh ", mesh_shape.describe(), " | ", DeviceEnv::host_threads(), " threads per rank");
  log::info(describe_model(config.model.flavor, shape.model));
  for (const std::string& line :
       describe_plan(shape, plan, plan_traffic(shape), launch.device.info().memory_bytes)) {
    log::info(line);
  }
  print_places(launch);
  launch.start.done("tokenizer and plan");
  const Mesh mesh(launch.mpi, mesh_shape, shape.backend, comm_options(config));
  launch.start.done("communicators");
  if (shape.compute == DType::bfloat16) {
    train<bf16>(config, shape, mesh, launch, *tokenizer, plan);
  } else {
    train<float>(config, shape, mesh, launch, *tokenizer, plan);
  }
}

}  // namespace koios
