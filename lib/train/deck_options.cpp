#include "train/deck_options.hpp"

#include "core/integers.hpp"
#include "pipeline/schedule.hpp"
#include "train/training_shape.hpp"

namespace koios {
DataOptions training_data(const RunConfig& config, std::int64_t vocab_size, BadData& bad,
                          const SampleRanks* ranks) {
  DataOptions options;
  options.format = config.data.dataset;
  options.path = config.data.dataset_path;
  for (const MixturePart& part : config.data.mixture) {
    options.mixture.push_back({part.dataset, part.path, part.weight});
  }
  options.marks = {config.data.add_bos, config.data.add_eos};
  options.seq_len = config.training.seq_len;
  options.batch_size = config.training.batch_size;
  options.gradient_accumulation = config.training.gradient_accumulation_steps;
  options.seed = static_cast<std::uint64_t>(config.job.seed);
  options.shuffle = config.data.shuffle;
  options.shuffle_window = config.data.shuffle_window;
  options.streams = config.data.streams;
  options.vocab_size = vocab_size;
  options.ranks = ranks;
  options.bad_data = &bad;
  return options;
}

DataOptions validation_data(const RunConfig& config, std::int64_t vocab_size, BadData& bad,
                            const SampleRanks* ranks) {
  DataOptions options = training_data(config, vocab_size, bad, ranks);
  options.format = config.validation.dataset;
  options.path = config.validation.dataset_path;
  options.mixture.clear();
  options.split = DataSplit::validation;
  options.gradient_accumulation = 1;
  options.shuffle = false;
  return options;
}

CommOptions comm_options(const RunConfig& config) {
  return {
      .init_timeout_s = static_cast<double>(config.comm.init_timeout_seconds),
      .train_timeout_s = static_cast<double>(config.comm.train_timeout_seconds),
      .trace_buf_size = narrow<int>(config.comm.trace_buf_size),
      .shard_transport = config.comm.shard_transport,
      .stage_path = stage_path(config.parallel.pipeline_schedule, config.parallel.pipeline_parallel,
                               config.parallel.pipeline_runs())};
}

}  // namespace koios
