// What a run is asked to do, as plain values. Built from a deck by parse_run_config(), constant
// from then on; each part of Koios is handed the struct it needs. Defaults, units, ranges and
// meanings are declared once, in run_schema.cpp; `koios --help-deck` prints them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config/selective_option.hpp"
#include "config/values.hpp"
#include "config/wall_time.hpp"
#include "core/choices.hpp"
#include "core/dtype.hpp"

namespace koios {

enum class BackendChoice { automatic, host, cuda };
enum class OptimizerName { adam, adamw };
enum class LrScheduleType { linear, cosine, wsd };
enum class OnNonfinite { stop, skip, go_on };
enum class IntervalType { steps, seconds };
enum class ResumeMode { automatic, required, none };
enum class RecomputeMode { none, selective, full };

constexpr EnumTable<BackendChoice, 3> names_of(BackendChoice) {
  using enum BackendChoice;
  return {{{automatic, "auto"}, {host, "host"}, {cuda, "cuda"}}};
}
constexpr EnumTable<OptimizerName, 2> names_of(OptimizerName) {
  return {{{OptimizerName::adam, "Adam"}, {OptimizerName::adamw, "AdamW"}}};
}
constexpr EnumTable<LrScheduleType, 3> names_of(LrScheduleType) {
  using enum LrScheduleType;
  return {{{linear, "linear"}, {cosine, "cosine"}, {wsd, "wsd"}}};
}
constexpr EnumTable<OnNonfinite, 3> names_of(OnNonfinite) {
  using enum OnNonfinite;
  return {{{stop, "stop"}, {skip, "skip"}, {go_on, "continue"}}};
}
constexpr EnumTable<IntervalType, 2> names_of(IntervalType) {
  return {{{IntervalType::steps, "steps"}, {IntervalType::seconds, "seconds"}}};
}
constexpr EnumTable<ResumeMode, 3> names_of(ResumeMode) {
  using enum ResumeMode;
  return {{{automatic, "auto"}, {required, "required"}, {none, "none"}}};
}
constexpr EnumTable<RecomputeMode, 3> names_of(RecomputeMode) {
  using enum RecomputeMode;
  return {{{none, "none"}, {selective, "selective"}, {full, "full"}}};
}

/// [job]
struct JobConfig {
  std::filesystem::path dump_folder = "./outputs";
  std::string description = "default job";
  BackendChoice backend = BackendChoice::automatic;
  bool deterministic = false;
  bool check_numerics = false;
  std::int64_t seed = 0;
  WallTime walltime;
  std::filesystem::path gemm_choices;

  bool operator==(const JobConfig&) const = default;
};

/// [model]; after parse_run_config() every size is resolved (only vocab_size may still be 0).
struct ModelConfig {
  std::string name = "llama";
  std::string flavor = "debugmodel";
  Norm norm_type = Norm::rmsnorm;
  std::filesystem::path tokenizer_path = "build/assets/tokenizer.model";
  AttentionKind attention = AttentionKind::automatic;
  std::int64_t vocab_size = 0;  // 0: the tokenizer's
  std::int64_t dim = 0;
  std::int64_t n_layers = 0;
  std::int64_t n_heads = 0;
  std::int64_t n_kv_heads = 0;
  std::int64_t ffn_dim = 0;
  std::int64_t multiple_of = 0;
  double ffn_dim_multiplier = 0;
  double norm_eps = 1e-5;
  double rope_theta = 10000;
  bool depth_init = true;

  std::int64_t head_dim() const { return dim / n_heads; }
  bool operator==(const ModelConfig&) const = default;
};

/// [optimizer]
struct OptimizerConfig {
  OptimizerName name = OptimizerName::adamw;
  double lr = 8e-4;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  DType state_dtype = DType::float32;

  bool operator==(const OptimizerConfig&) const = default;
};

/// [lr_scheduler]; warm-up and the number of steps are in TrainingConfig.
struct LrSchedulerConfig {
  LrScheduleType type = LrScheduleType::linear;
  double min_lr_ratio = 0;       // of optimizer/lr, where the decay ends
  std::int64_t decay_steps = 0;  // wsd only: length of the final decay

  bool operator==(const LrSchedulerConfig&) const = default;
};

/// [training] without the degrees and the data
struct TrainingConfig {
  std::int64_t batch_size = 8;  // sequences per data-parallel rank and micro-batch
  std::int64_t seq_len = 2048;  // tokens
  std::int64_t steps = 10000;
  std::int64_t warmup_steps = 200;
  double max_norm = 1.0;
  std::int64_t gradient_accumulation_steps = 1;
  std::optional<bool> reduce_every_micro_batch;
  std::optional<bool> reshard_after_forward;
  int prefetch_blocks = 1;
  std::optional<bool> keep_cast_shards;
  std::optional<DType> mixed_precision_param;
  DType mixed_precision_reduce = DType::float32;
  Fp8Recipe fp8_linear = Fp8Recipe::none;
  std::vector<int> fp8_skip_blocks;
  bool fp8_fast_backward = false;
  Fp8ScalesOf fp8_scales = Fp8ScalesOf::current;
  OnNonfinite on_nonfinite = OnNonfinite::stop;
  std::int64_t nonfinite_budget = 100;  // steps in a row

  bool operator==(const TrainingConfig&) const = default;
};

/// [training] *_degree; see resolve_degrees().
struct ParallelConfig {
  int data_parallel = -1;  // replicate * shard; -1: what is left
  int data_parallel_replicate = 1;
  int tensor_parallel = 1;
  int pipeline_parallel = 1;
  int context_parallel = 1;
  bool enable_loss_parallel = true;
  std::optional<bool> async_tp;
  ScheduleKind pipeline_schedule = ScheduleKind::one_f_one_b;
  int pipeline_chunks = 2;           // runs of blocks of a stage, with interleaved_1f1b
  std::vector<int> pipeline_layers;  // of each run; empty: by cost

  int pipeline_runs() const {
    if (pipeline_schedule == ScheduleKind::zero_bubble_v) return 2;
    return pipeline_schedule == ScheduleKind::interleaved ? pipeline_chunks : 1;
  }

  bool operator==(const ParallelConfig&) const = default;
};

/// One dataset of data/mixture; see mixture.hpp.
struct MixturePart {
  DataFormat dataset = DataFormat::text;
  std::filesystem::path path;
  double weight = 1;  // relative to the others

  auto operator<=>(const MixturePart&) const = default;
};
using Mixture = std::vector<MixturePart>;

/// [training] dataset*, and [data]
struct DataConfig {
  DataFormat dataset = DataFormat::text;
  std::filesystem::path dataset_path = "build/assets/kjv.txt";  // file, glob pattern or folder
  std::int64_t streams = 8;
  bool shuffle = true;
  std::int64_t shuffle_window = 1024;  // records
  bool document_mask = false;
  Mixture mixture;  // if any, in place of dataset*
  bool add_bos = true;
  bool add_eos = true;
  OnBadData on_bad_data = OnBadData::stop;

  bool operator==(const DataConfig&) const = default;
};

/// [validation]; empty dataset_path: none
struct ValidationConfig {
  DataFormat dataset = DataFormat::text;
  std::filesystem::path dataset_path;
  std::int64_t interval = 100;  // steps
  std::int64_t steps = 10;      // batches of training/batch_size on every data-parallel rank

  bool is_on() const { return !dataset_path.empty(); }
  bool operator==(const ValidationConfig&) const = default;
};

/// [metrics]
struct MetricsConfig {
  std::int64_t log_freq = 10;  // steps
  std::optional<bool> enable_color_printing;
  RankList log_ranks = {{0}};

  bool shows(int rank) const { return log_ranks.has(rank); }
  bool operator==(const MetricsConfig&) const = default;
};

struct ProfilingConfig {
  bool run_profiler = false;
  std::filesystem::path save_traces_folder = "profiling/traces";  // under the run folder
  std::int64_t profile_freq = 10;                                 // steps
  std::int64_t warmup_steps = 1;
  std::int64_t active_steps = 1;

  bool operator==(const ProfilingConfig&) const = default;
};

/// [checkpoint]; empty folder: off
struct CheckpointConfig {
  std::filesystem::path folder;  // under the run folder
  std::int64_t interval = 500;
  IntervalType interval_type = IntervalType::steps;
  bool save_first_step = true;
  bool model_weights_only = false;
  DType export_dtype = DType::float32;
  bool asynchronous = false;
  WriteMethod io = WriteMethod::direct;
  ResumeMode resume = ResumeMode::automatic;
  std::filesystem::path initial_load_path;  // empty: weights from the seed
  std::int64_t keep_latest_k = 0;           // 0: all
  std::int64_t keep_every = 0;              // steps; 0: none beside these

  bool is_on() const { return !folder.empty(); }
  bool operator==(const CheckpointConfig&) const = default;
};

/// [activation_checkpoint]
struct ActivationCheckpointConfig {
  RecomputeMode mode = RecomputeMode::selective;
  SelectiveOption selective_ac_option;  // mode selective only

  bool operator==(const ActivationCheckpointConfig&) const = default;
};

/// [comm]
struct CommConfig {
  std::int64_t init_timeout_seconds = 300;  // start-up and first step
  /// MPI's start and the deck, where the command line gives no init_timeout_seconds: the deck's is
  /// not known that early, and the start of a large job is not to be ended for that.
  static constexpr std::int64_t kLongestStartSeconds = 600;
  std::int64_t train_timeout_seconds = 100;
  std::int64_t trace_buf_size = 20000;  // entries
  ShardTransport shard_transport = ShardTransport::automatic;

  bool operator==(const CommConfig&) const = default;
};

struct RunConfig {
  JobConfig job;
  ModelConfig model;
  OptimizerConfig optimizer;
  LrSchedulerConfig lr_scheduler;
  TrainingConfig training;
  ParallelConfig parallel;
  DataConfig data;
  ValidationConfig validation;
  MetricsConfig metrics;
  ProfilingConfig profiling;
  CheckpointConfig checkpoint;
  ActivationCheckpointConfig activation_checkpoint;
  CommConfig comm;

  bool operator==(const RunConfig&) const = default;
};

}  // namespace koios
