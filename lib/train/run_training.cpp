#include "train/run_training.hpp"

#include <memory>
#include <string>
#include <vector>

#include "comm/host_reduce.hpp"
#include "config/deck_error.hpp"
#include "core/log.hpp"
#include "data/tokenizer.hpp"
#include "train/attention_choice.hpp"
#include "train/deck_options.hpp"
#include "train/flops.hpp"
#include "train/host_memory.hpp"
#include "train/run_files.hpp"
#include "train/start_report.hpp"
#include "train/training_loop.hpp"

namespace koios {
namespace {

std::int64_t vocabulary(const ModelConfig& model, const Tokenizer& tokenizer) {
  if (model.vocab_size == 0) return tokenizer.vocab_size();
  if (tokenizer.vocab_size() <= model.vocab_size) return model.vocab_size;
  throw DeckValueError({"model/vocab_size"},
                       cat("[model] vocab_size = ", model.vocab_size,
                           " is smaller than the tokenizer's ", tokenizer.vocab_size(), " pieces (",
                           model.tokenizer_path.string(), "); set it to 0 or to at least that"));
}

void print_plan(const RunConfig& config, const TrainingShape& shape, const Launch& launch) {
  log::info(config.job.description);
  log::info("mesh ", shape.mesh.describe(), " | ", DeviceEnv::host_threads(), " threads per rank");
  log::info(describe_model(config.model.flavor, shape.model));
  log::info(describe_flops(shape.model, shape.micro_batch.seq_len, launch.device.info().name));
  for (const std::string& line : describe_plan(shape, launch.device.info().memory_bytes)) {
    log::info(line);
  }
}

/// Rank 0's, where every rank finds the folder; nothing on the others. Collective.
std::unique_ptr<RunFiles> open_run_files(const RunConfig& config, std::int64_t vocab_size,
                                         const Mesh& mesh, const Launch& launch) {
  const std::vector<std::string> hosts = launch.mpi.all_gather(launch.mpi.host());
  std::unique_ptr<RunFiles> files;
  if (mesh.rank() == 0) {
    BadData unused(OnBadData::skip);
    files = std::make_unique<RunFiles>(config, launch, hosts,
                                       training_data(config, vocab_size, unused, nullptr));
  }
  barrier(mesh.host_world());
  return files;
}

}  // namespace

TrainingOutcome run_training(const RunConfig& config, const MeshShape& mesh_shape,
                             const Launch& launch) {
  launch.watchdog.start("reading the tokenizer");
  const std::unique_ptr<Tokenizer> tokenizer = load_sentencepiece(
      config.model.tokenizer_path.string(), {config.data.add_bos, config.data.add_eos}, launch.mpi);
  const std::int64_t vocab_size = vocabulary(config.model, *tokenizer);
  TrainingShape shape = training_shape(config, mesh_shape, launch.device.backend(), vocab_size);
  choose_attention(shape, launch.mpi);
  print_plan(config, shape, launch);
  require_host_memory(shape, largest(plan_memory_of_stages(shape)), launch.mpi);
  print_places(launch.mpi, launch.device, mesh_shape);
  launch.start.done("tokenizer and plan");

  launch.watchdog.start("making communicators");
  const Mesh mesh(launch.mpi, mesh_shape, shape.backend, comm_options(config), &launch.recorder);
  const FailurePoll poll(mesh, launch.watchdog);
  launch.start.done("communicators");
  launch.memory.note("communicators");
  launch.watchdog.start("opening the run folder");
  const auto files = open_run_files(config, vocab_size, mesh, launch);
  MetricsWriter* const metrics = files ? &files->metrics : nullptr;

  const auto train = [&]<class T>(T /*compute type*/) {
    launch.watchdog.start("taking memory");
    TrainingLoop<T> loop(config, shape, mesh, launch, *tokenizer, metrics);
    if (files) files->note_data_files();
    return loop.run();
  };
  const TrainingOutcome outcome = shape.compute == DType::bfloat16 ? train(bf16{}) : train(float{});
  if (files) log::info("metrics: ", files->folder.file("metrics.jsonl").string());
  return outcome;
}

}  // namespace koios
