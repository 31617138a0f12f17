#include "config/validate.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "config/parallel_degrees.hpp"
#include "config/rules.hpp"
#include "core/integers.hpp"
#include "core/readable.hpp"

namespace koios {
namespace {

void check_model(Rules& rules, const ModelConfig& m) {
  constexpr std::int64_t kLargestHead = 256;  // of kernels/attention.hpp
  rules.require(m.dim % m.n_heads == 0, {"model/dim", "model/n_heads", "model/flavor"},
                cat("[model] dim = ", m.dim, " is not a multiple of n_heads = ", m.n_heads));
  rules.require(
      m.dim % m.n_heads != 0 || m.head_dim() % 2 == 0,
      {"model/dim", "model/n_heads", "model/flavor"},
      cat("[model] dim / n_heads = ", m.head_dim(), " is odd; rotary embedding turns pairs"));
  rules.require(m.head_dim() <= kLargestHead, {"model/n_heads", "model/dim", "model/flavor"},
                cat("[model] dim / n_heads = ", m.head_dim(), ": attention does heads of at most ",
                    kLargestHead, "; take more heads"));
  rules.require(
      m.n_heads % m.n_kv_heads == 0, {"model/n_kv_heads", "model/n_heads", "model/flavor"},
      cat("[model] n_heads = ", m.n_heads, " is not a multiple of n_kv_heads = ", m.n_kv_heads));
  rules.require(m.ffn_dim > 0,
                {"model/ffn_dim_multiplier", "model/dim", "model/multiple_of", "model/flavor"},
                cat("[model] ffn_dim_multiplier = ", m.ffn_dim_multiplier,
                    " leaves no width for the feed-forward"));
}

/// Tokens of a micro-batch on one rank; where context-parallel ranks cannot share a sequence, which
/// is said elsewhere, about as many.
std::int64_t tokens_of_rank(const RunConfig& c) {
  return c.training.batch_size *
         std::max<std::int64_t>(1, c.training.seq_len / c.parallel.context_parallel);
}

/// Tokens that the kernels do at once. They count the packs of 16 bytes of a matrix in 32 bits
/// (kernels/detail/launch_cuda.hpp); a row that is no whole number of packs is taken one by one.
std::int64_t most_tokens(const RunConfig& c) {
  const std::int64_t pack = c.training.mixed_precision_param == DType::float32 ? 4 : 8;
  const auto packs = [&](std::int64_t width) { return width % pack == 0 ? width / pack : width; };
  const ModelConfig& m = c.model;
  const std::int64_t tp = c.parallel.tensor_parallel;
  const std::int64_t turned = m.n_heads * packs(m.head_dim());  // by the rotary embedding
  const std::int64_t widest = std::max({packs(m.dim), turned / tp, packs(m.ffn_dim / tp)});
  return std::numeric_limits<std::int32_t>::max() / std::max<std::int64_t>(1, widest);
}

bool tensor_parallel_fits(std::int64_t degree, const RunConfig& c) {
  const std::int64_t tokens = tokens_of_rank(c);
  return c.model.n_heads % degree == 0 && c.model.n_kv_heads % degree == 0 &&
         c.model.ffn_dim % degree == 0 && c.model.vocab_size % degree == 0 && tokens % degree == 0;
}

std::string describe_tokens(const RunConfig& c) {
  return cat("batch_size * seq_len",
             c.parallel.context_parallel > 1 ? " / context_parallel_degree" : "", " = ",
             tokens_of_rank(c));
}

/// Elements and bytes are counted in 64 bits.
void check_counts(Rules& rules, const RunConfig& c) {
  const ModelConfig& m = c.model;
  const std::int64_t tokens = tokens_of_rank(c);
  rules.require(
      tokens <= most_tokens(c),
      {"training/batch_size", "training/seq_len", "model/dim", "model/ffn_dim", "model/flavor"},
      cat("[training] ", describe_tokens(c), " is more than the ", most_tokens(c),
          " tokens that the kernels take at once with dim = ", m.dim, " and ffn_dim = ", m.ffn_dim,
          "; lower batch_size and raise gradient_accumulation_steps instead"));
  const auto dim = static_cast<double>(m.dim);
  const auto ffn = static_cast<double>(m.ffn_dim);
  const double in_blocks =
      static_cast<double>(m.n_layers) *
      (dim * (4 * dim + 3 * ffn) + static_cast<double>(tokens) * (16 * dim + 8 * ffn));
  rules.require(in_blocks < 0x1p56,
                {"model/n_layers", "model/dim", "model/ffn_dim", "model/ffn_dim_multiplier",
                 "training/batch_size", "training/seq_len"},
                cat("[model] n_layers = ", m.n_layers, ", dim = ", m.dim, ", ffn_dim = ", m.ffn_dim,
                    " with ", tokens, " tokens at once are more than can be counted"));
}

void check_fp8(Rules& rules, const RunConfig& c) {
  rules.require(c.training.fp8_linear == Fp8Recipe::none || !c.parallel.async_tp.value_or(false),
                {"training/fp8_linear", "parallel/async_tp"},
                cat("[training] fp8_linear = ", to_string(c.training.fp8_linear),
                    " needs all rows before it can scale them: set [parallel] async_tp = false"));
  const Fp8Recipe recipe = c.training.fp8_linear;
  rules.require(!c.training.fp8_fast_backward || recipe == Fp8Recipe::tensorwise ||
                    recipe == Fp8Recipe::rowwise,
                {"training/fp8_fast_backward", "training/fp8_linear"},
                cat("[training] fp8_fast_backward = true: there is nothing to sum so with "
                    "fp8_linear = ",
                    to_string(recipe), "; set it to tensorwise or rowwise"));
  rules.require(
      c.training.fp8_scales == Fp8ScalesOf::current || recipe == Fp8Recipe::tensorwise,
      {"training/fp8_scales", "training/fp8_linear"},
      cat("[training] fp8_scales = previous is for fp8_linear = tensorwise, which has one scale a "
          "tensor; fp8_linear is ",
          recipe == Fp8Recipe::none ? "empty" : to_string(recipe)));
  for (const int block : c.training.fp8_skip_blocks) {
    rules.require(block >= 0 && block < c.model.n_layers,
                  {"training/fp8_skip_blocks", "model/n_layers"},
                  cat("[training] fp8_skip_blocks: there is no block ", block,
                      ": they are counted from 0 to n_layers - 1 = ", c.model.n_layers - 1));
  }
}

/// A piece of 1 x 128 of the gradient of wq|wk|wv may reach over two of them, and so may one of
/// w1|w3: a product reads each of these stacks as one matrix, which must have no gaps.
void check_fp8_stacks(Rules& rules, const RunConfig& c, int ranks) {
  constexpr std::int64_t kAlignment = 128;  // elements, of shard/layout.hpp
  const ModelConfig& m = c.model;
  if (c.training.fp8_linear != Fp8Recipe::block || m.dim % m.n_heads != 0) return;
  if (!mesh_problem(c.parallel, ranks).empty() ||
      !tensor_parallel_fits(c.parallel.tensor_parallel, c))
    return;
  const ParallelDegrees degrees = resolve_degrees(c.parallel, ranks);
  const std::int64_t sharers = std::int64_t{degrees.dp_shard} * degrees.cp;
  const std::pair<const char*, std::int64_t> stacked[] = {
      {"wq", m.dim}, {"wk", m.n_kv_heads * m.head_dim()}, {"w1", m.ffn_dim}};
  for (const auto& [name, outputs] : stacked) {
    const std::int64_t rows = outputs / degrees.tp;
    rules.require(
        rows % sharers == 0 && rows * m.dim % kAlignment == 0,
        {"training/fp8_linear", "training/data_parallel_degree", "training/context_parallel_degree",
         "model/dim", "model/n_heads", "model/n_kv_heads", "model/ffn_dim", "model/flavor"},
        cat("[training] fp8_linear = block: the ", rows, " rows of ", name, ", ", m.dim,
            " wide, must divide by the ", counted(sharers, "rank"),
            " that share them, and have a multiple of ", kAlignment,
            " elements; choose another mesh or size, or rowwise"));
  }
}

void check_job(Rules& rules, const JobConfig& job) {
  rules.require(
      job.gemm_choices.empty() || !job.deterministic, {"job/gemm_choices", "job/deterministic"},
      "[job] gemm_choices: these algorithms were timed, and a deterministic run takes none "
      "that were; leave it empty");
}

void check_attention(Rules& rules, const RunConfig& c) {
  const bool is_masked = c.data.document_mask && c.model.attention == AttentionKind::cudnn;
  rules.require(!is_masked || !c.job.deterministic,
                {"model/attention", "job/deterministic", "data/document_mask"},
                "[model] attention = cudnn is not deterministic with [data] document_mask = true: "
                "choose auto or fallback");
  rules.require(!is_masked || c.parallel.context_parallel == 1,
                {"model/attention", "training/context_parallel_degree", "data/document_mask"},
                "[model] attention = cudnn has no [data] document_mask where context-parallel "
                "ranks share sequences: choose auto or fallback");
}

void check_recomputation(Rules& rules, const RunConfig& c) {
  const SelectiveOption& option = c.activation_checkpoint.selective_ac_option;
  const char* key = "activation_checkpoint/selective_ac_option";
  const bool by_blocks = c.activation_checkpoint.mode == RecomputeMode::selective &&
                         option.kind == SelectiveOption::Kind::blocks;
  rules.require(!by_blocks || option.every <= c.model.n_layers || !rules.is_changed(key),
                {key, "model/n_layers", "model/flavor"},
                cat("[activation_checkpoint] selective_ac_option = ", option.every,
                    " recomputes none of the model's ", c.model.n_layers,
                    " blocks; set at most that, or mode = none"));
}

void check_schedule(Rules& rules, const RunConfig& c) {
  rules.require(c.optimizer.beta1 < 1, {"optimizer/beta1"},
                "[optimizer] beta1 = 1: must be below 1");
  rules.require(c.optimizer.beta2 < 1, {"optimizer/beta2"},
                "[optimizer] beta2 = 1: must be below 1");

  const std::int64_t decay = c.lr_scheduler.decay_steps;
  const bool is_wsd = c.lr_scheduler.type == LrScheduleType::wsd;
  rules.require(!is_wsd || decay > 0, {"lr_scheduler/type", "lr_scheduler/decay_steps"},
                "[lr_scheduler] type = wsd needs decay_steps, the length of its final decay");
  rules.require(is_wsd || decay == 0, {"lr_scheduler/decay_steps", "lr_scheduler/type"},
                cat("[lr_scheduler] decay_steps = ", decay, " is for type = wsd only"));
}

/// A few steps of a deck that is made for many are tried all the time.
void warn_of_schedule(Rules& rules, const RunConfig& c) {
  const std::int64_t steps = c.training.steps;
  const std::int64_t warmup = c.training.warmup_steps;
  const std::int64_t decay =
      c.lr_scheduler.type == LrScheduleType::wsd ? c.lr_scheduler.decay_steps : 0;
  rules.require(warmup < steps, {"training/warmup_steps", "training/steps"},
                cat("[training] warmup_steps = ", warmup, " is not below steps = ", steps,
                    ": the learning rate never reaches optimizer/lr"));
  rules.require(warmup >= steps || warmup + decay <= steps,
                {"lr_scheduler/decay_steps", "training/warmup_steps", "training/steps"},
                cat("[lr_scheduler] decay_steps = ", decay, " and warmup_steps = ", warmup,
                    " together exceed steps = ", steps,
                    ": the learning rate falls before it has reached optimizer/lr"));
}

void warn_of_profiling(Rules& rules, const RunConfig& c) {
  const std::int64_t freq = c.profiling.profile_freq;
  rules.require(!c.profiling.run_profiler || freq <= c.training.steps,
                {"profiling/profile_freq", "profiling/run_profiler", "training/steps"},
                cat("[profiling] profile_freq = ", freq, ": of steps = ", c.training.steps,
                    " none is recorded"));
}

void check_validation(Rules& rules, const ValidationConfig& v) {
  for (const char* key : {"validation/dataset", "validation/interval", "validation/steps"}) {
    rules.require(v.is_on() || !rules.is_changed(key), {key, "validation/dataset_path"},
                  cat("[validation] ", std::strchr(key, '/') + 1,
                      " does nothing without dataset_path, the held-out data"));
  }
}

void check_data(Rules& rules, const DataConfig& d) {
  for (const char* key : {"training/dataset", "training/dataset_path"}) {
    rules.require(d.mixture.empty() || !rules.is_changed(key), {key, "data/mixture"},
                  cat("[training] ", std::strchr(key, '/') + 1,
                      " does nothing beside [data] mixture; remove one of the two"));
  }
  rules.require(d.add_bos || d.add_eos, {"data/add_eos", "data/add_bos"},
                "[data] add_bos and add_eos are both false: nothing would part the documents");
}

void check_parallel(Rules& rules, const RunConfig& c, int ranks) {
  const std::int64_t tp = c.parallel.tensor_parallel;
  const char* key = "training/tensor_parallel_degree";
  std::string fitting;
  for (std::int64_t degree = 1; degree <= c.model.n_kv_heads; ++degree) {
    if (tensor_parallel_fits(degree, c)) fitting += cat(fitting.empty() ? "" : ", ", degree);
  }
  // A vocabulary of 0 is the tokenizer's, which is not known here; 0 divides by everything.
  const std::string vocabulary =
      c.model.vocab_size > 0 ? cat(", vocab_size = ", c.model.vocab_size) : "";
  rules.require(
      tensor_parallel_fits(tp, c),
      {key, "model/n_heads", "model/n_kv_heads", "model/ffn_dim", "model/flavor",
       "model/vocab_size", "training/batch_size", "training/seq_len"},
      cat("[training] tensor_parallel_degree = ", tp, " must divide n_heads = ", c.model.n_heads,
          ", n_kv_heads = ", c.model.n_kv_heads, ", ffn_dim = ", c.model.ffn_dim, vocabulary,
          " and ", describe_tokens(c), "; degrees that do: ", fitting));

  const std::string problem = mesh_problem(c.parallel, ranks);
  const char* replicate = "training/data_parallel_replicate_degree";
  const bool is_left = c.parallel.data_parallel == -1;  // then the others are to blame
  const char* blamed = is_left ? key : "training/data_parallel_degree";
  if (problem.starts_with(std::strchr(replicate, '/') + 1)) blamed = replicate;
  rules.require(problem.empty(),
                {blamed, key, replicate, "training/pipeline_parallel_degree",
                 "training/context_parallel_degree"},
                cat("[training] ", problem));
}

void check_context_parallel(Rules& rules, const RunConfig& c) {
  const std::int64_t cp = c.parallel.context_parallel;
  const std::int64_t seq_len = c.training.seq_len;
  rules.require(cp == 1 || seq_len % (2 * cp) == 0,
                {"training/context_parallel_degree", "training/seq_len"},
                cat("[training] context_parallel_degree = ", cp, ": each rank takes two of ",
                    2 * cp, " equal chunks of a sequence, and seq_len = ", seq_len,
                    " has no such chunks; the next that has is ", round_up(seq_len, 2 * cp)));
}

void check_pipeline(Rules& rules, const RunConfig& c) {
  const std::int64_t stages = c.parallel.pipeline_parallel;
  const std::int64_t parts = stages * c.parallel.pipeline_runs();
  const std::vector<int>& layers = c.parallel.pipeline_layers;
  const ScheduleKind schedule = c.parallel.pipeline_schedule;
  const bool is_interleaved = schedule == ScheduleKind::interleaved;
  const char* degree = "training/pipeline_parallel_degree";
  const char* chunks = "parallel/pipeline_chunks";
  const char* order = "parallel/pipeline_schedule";
  rules.require(stages <= c.model.n_layers, {degree, "model/n_layers", "model/flavor"},
                cat("[training] pipeline_parallel_degree = ", stages, ": the model's ",
                    c.model.n_layers, " blocks do not give every stage one"));
  for (const char* key : {order, chunks, "parallel/pipeline_layers"}) {
    rules.require(stages > 1 || !rules.is_changed(key), {key, degree},
                  cat("[parallel] ", std::strchr(key, '/') + 1,
                      " does nothing with [training] pipeline_parallel_degree = 1"));
  }
  if (stages == 1) return;
  rules.require(is_interleaved || !rules.is_changed(chunks), {chunks, order},
                "[parallel] pipeline_chunks is for pipeline_schedule = interleaved_1f1b only");
  const std::string cut =
      is_interleaved ? cat("chunks = ", c.parallel.pipeline_chunks) : "schedule = zero_bubble_v";
  rules.require(parts == stages || parts <= c.model.n_layers,
                {chunks, order, degree, "model/n_layers", "model/flavor"},
                cat("[parallel] pipeline_", cut, " for ", stages, " stages: the model's ",
                    c.model.n_layers, " blocks do not give each of ", parts, " one"));
  const std::int64_t micro_batches = c.training.gradient_accumulation_steps;
  rules.require(!is_interleaved || micro_batches % stages == 0,
                {order, "training/gradient_accumulation_steps", degree},
                cat("[parallel] pipeline_schedule = interleaved_1f1b takes micro-batches in groups "
                    "of as many as there are stages: [training] gradient_accumulation_steps = ",
                    micro_batches, " is not a multiple of ", stages));
  const bool is_split = splits_backward(schedule);
  rules.require(!is_split || c.activation_checkpoint.mode == RecomputeMode::none,
                {order, "activation_checkpoint/mode"},
                cat("[parallel] pipeline_schedule = ", to_string(schedule),
                    " keeps activations for the weights' gradients, which come later: set "
                    "[activation_checkpoint] mode = none, not ",
                    to_string(c.activation_checkpoint.mode)));
  rules.require(!is_split || !c.training.reduce_every_micro_batch.value_or(false),
                {order, "training/reduce_every_micro_batch"},
                cat("[parallel] pipeline_schedule = ", to_string(schedule),
                    " sums gradients over the micro-batches of a step: set [training] "
                    "reduce_every_micro_batch = auto"));
  if (layers.empty()) return;
  const bool is_any_empty = std::count(layers.begin(), layers.end(), 0) > 0;
  const std::int64_t sum = std::accumulate(layers.begin(), layers.end(), std::int64_t{0});
  rules.require(std::ssize(layers) == parts && !is_any_empty && sum == c.model.n_layers,
                {"parallel/pipeline_layers", degree, chunks, "model/n_layers", "model/flavor"},
                cat("[parallel] pipeline_layers = ", show_value(layers), ": expected ", parts,
                    " numbers above 0, one for each ",
                    parts > stages ? "run of each stage" : "stage", ", that make ",
                    c.model.n_layers, " together; these are ", layers.size(), " that make ", sum));
}

void check_checkpoint(Rules& rules, const CheckpointConfig& c) {
  const std::string folder = c.folder.lexically_normal().string();
  rules.require(c.folder.is_relative() && !folder.starts_with("..") && folder != ".",
                {"checkpoint/folder"},
                cat("[checkpoint] folder = ", c.folder.string(),
                    ": must be a folder below job/dump_folder, such as checkpoints"));
  // Who asks for these counts on checkpoints; the other keys may wait for a folder.
  rules.require(c.is_on() || c.resume != ResumeMode::required,
                {"checkpoint/resume", "checkpoint/folder"},
                "[checkpoint] resume = required needs folder, where the checkpoints are");
  rules.require(c.is_on() || !c.model_weights_only,
                {"checkpoint/model_weights_only", "checkpoint/folder"},
                "[checkpoint] model_weights_only = true needs folder, where to save them");
}

void check_log_ranks(Rules& rules, const MetricsConfig& m, int ranks) {
  bool any = false;
  for (int rank = 0; rank < ranks; ++rank) any = any || m.shows(rank);
  rules.require(any, {"metrics/log_ranks"},
                cat("[metrics] log_ranks: none of these is a rank of this run, 0 ... ", ranks - 1));
}

void check_profiling(Rules& rules, const ProfilingConfig& p) {
  rules.require(p.warmup_steps + p.active_steps <= p.profile_freq,
                {"profiling/profile_freq", "profiling/warmup_steps", "profiling/active_steps"},
                cat("[profiling] profile_freq = ", p.profile_freq,
                    " has no room for warmup_steps = ", p.warmup_steps,
                    " and active_steps = ", p.active_steps));
}

}  // namespace

std::vector<DeckError> check_rules(const ParsedDeck& parsed, int ranks) {
  Rules rules(parsed);
  check_model(rules, parsed.config.model);
  check_counts(rules, parsed.config);
  check_job(rules, parsed.config.job);
  check_attention(rules, parsed.config);
  check_fp8(rules, parsed.config);
  check_fp8_stacks(rules, parsed.config, ranks);
  check_recomputation(rules, parsed.config);
  check_schedule(rules, parsed.config);
  check_validation(rules, parsed.config.validation);
  check_data(rules, parsed.config.data);
  check_parallel(rules, parsed.config, ranks);
  check_context_parallel(rules, parsed.config);
  check_pipeline(rules, parsed.config);
  check_checkpoint(rules, parsed.config.checkpoint);
  check_profiling(rules, parsed.config.profiling);
  check_log_ranks(rules, parsed.config.metrics, ranks);
  return std::move(rules).errors();
}

std::vector<DeckError> find_doubts(const ParsedDeck& parsed) {
  Rules rules(parsed);
  warn_of_schedule(rules, parsed.config);
  warn_of_profiling(rules, parsed.config);
  return std::move(rules).errors();
}

std::vector<DeckError> check_deck(const ParsedDeck& parsed, int ranks) {
  std::vector<DeckError> errors = parsed.errors;
  for (const DeckError& error : check_rules(parsed, ranks)) errors.push_back(error);
  sort_errors(errors);
  return errors;
}

std::vector<DeckError> validate(const ParsedDeck& parsed, int ranks,
                                const DataProblem& data_problem) {
  std::vector<DeckError> errors = check_deck(parsed, ranks);
  for (const DeckError& error : check_files(parsed, data_problem)) errors.push_back(error);
  sort_errors(errors);
  return errors;
}

}  // namespace koios
