#include "config/run_schema.hpp"

#include <limits>

#include "config/mixture.hpp"
#include "config/model_flavors.hpp"

namespace koios {
namespace {

constexpr std::int64_t kMillion = 1000000;
constexpr std::int64_t kWeek = 7 * 24 * 3600;  // seconds
constexpr const char* kOfFlavor = "; 0 = the flavor's";

void add_job(DeckSchema& schema, JobConfig& c) {
  const char* s = "job";
  schema.add(s, "dump_folder", &c.dump_folder).help("the run folder: all that a run writes");
  schema.add(s, "description", &c.description).may_be_empty().help("logged at the start");
  schema.add(s, "backend", &c.backend)
      .help("auto takes the GPU where the build and the node have one");
  schema.add(s, "deterministic", &c.deterministic)
      .help("equal runs agree bit for bit on CUDA too, at some cost (on the CPU they always do)");
  schema.add(s, "check_numerics", &c.check_numerics)
      .help("end the run at the first operation that makes NaN or infinity, and name it; slow");
  schema.add(s, "seed", &c.seed)
      .range(0, std::numeric_limits<std::int64_t>::max())
      .help("of initial weights and of the order of data");
  schema.add(s, "walltime", &c.walltime)
      .help(
          "from the launch on; saves and stops (exit code 99) before it is over; 0 = no limit but "
          "Slurm's; also: koios -t TIME");
  schema.add(s, "gemm_choices", &c.gemm_choices)
      .may_be_empty()
      .help(
          "on GPUs, gemm_choices.txt of another run on such GPUs: its algorithms for matrix "
          "products are taken, and only what it lacks is timed at the start; not with "
          "deterministic");
}

void add_metrics(DeckSchema& schema, MetricsConfig& c) {
  const char* s = "metrics";
  schema.add(s, "log_freq", &c.log_freq)
      .unit("steps")
      .range(1, 1000 * kMillion)
      .help("between two log lines; the first and the last step are always logged");
  schema.add(s, "enable_color_printing", &c.enable_color_printing)
      .help("auto: where standard output is a terminal");
  schema.add(s, "log_ranks", &c.log_ranks)
      .help("ranks whose lines are shown, such as 0,8; rank 0 has those of the steps");
}

void add_profiling(DeckSchema& schema, ProfilingConfig& c) {
  const char* s = "profiling";
  schema.add(s, "run_profiler", &c.run_profiler)
      .help("write timelines of single steps, one file a rank, for Perfetto; docs/outputs.md");
  schema.add(s, "save_traces_folder", &c.save_traces_folder).help("under dump_folder");
  schema.add(s, "profile_freq", &c.profile_freq)
      .unit("steps")
      .range(1, kMillion)
      .help("of every so many steps the last ones are recorded");
  schema.add(s, "warmup_steps", &c.warmup_steps)
      .unit("steps")
      .range(0, kMillion)
      .help("recorded and thrown away before them");
  schema.add(s, "active_steps", &c.active_steps)
      .unit("steps")
      .range(1, kMillion)
      .help("recorded and written; warmup_steps and these are at most profile_freq");
}

void add_model(DeckSchema& schema, ModelConfig& c) {
  const char* s = "model";
  std::vector<std::string> flavors;
  for (const ModelFlavor& flavor : model_flavors()) flavors.emplace_back(flavor.name);

  schema.add(s, "name", &c.name).one_of({"llama"}).help("Llama 2");
  schema.add(s, "flavor", &c.flavor).one_of(flavors).help("the sizes that are not given below");
  schema.add(s, "norm_type", &c.norm_type)
      .help(
          "all compute in float32 in one pass with the addition before; rmsnorm rounds before its "
          "weight, too; layernorm has no bias, np_layernorm no parameters");
  schema.add(s, "tokenizer_path", &c.tokenizer_path).help("SentencePiece model");
  schema.add(s, "attention", &c.attention)
      .help("auto: cuDNN's where it fits, otherwise Koios' own kernel");
  schema.add(s, "vocab_size", &c.vocab_size)
      .unit("tokens")
      .range(0, 10 * kMillion)
      .help("0 = the tokenizer's; larger is padding");
  schema.add(s, "dim", &c.dim).range(0, 1 << 20).help(cat("width of the residual", kOfFlavor));
  schema.add(s, "n_layers", &c.n_layers)
      .range(0, 1 << 14)
      .help(cat("transformer blocks", kOfFlavor));
  schema.add(s, "n_heads", &c.n_heads).range(0, 1 << 14).help(cat("query heads", kOfFlavor));
  schema.add(s, "n_kv_heads", &c.n_kv_heads)
      .range(0, 1 << 14)
      .help(cat("key and value heads", kOfFlavor, ", which is n_heads except in 70B"));
  schema.add(s, "ffn_dim", &c.ffn_dim)
      .range(0, 1 << 24)
      .help(
          "width of the feed-forward; 0 = 2/3 of 4 dim, times ffn_dim_multiplier, rounded up to "
          "multiple_of");
  schema.add(s, "multiple_of", &c.multiple_of)
      .range(0, 1 << 20)
      .help(cat("see ffn_dim", kOfFlavor));
  schema.add(s, "ffn_dim_multiplier", &c.ffn_dim_multiplier)
      .range(0, 100)
      .help(cat("see ffn_dim", kOfFlavor));
  schema.add(s, "norm_eps", &c.norm_eps)
      .range(1e-12, 0.1)
      .help("added to the mean square, or the variance");
  schema.add(s, "rope_theta", &c.rope_theta).range(1, 1e12).help("base of the rotary angles");
  schema.add(s, "depth_init", &c.depth_init)
      .help("output projections start smaller with their layer's depth; false: with n_layers");
}

void add_optimizer(DeckSchema& schema, OptimizerConfig& c) {
  const char* s = "optimizer";
  schema.add(s, "name", &c.name).help("Adam adds the weight decay to the gradient, AdamW does not");
  schema.add(s, "lr", &c.lr).range(0, 10).help("learning rate after warm-up");
  schema.add(s, "beta1", &c.beta1).range(0, 1).help("decay of the first moment; below 1");
  schema.add(s, "beta2", &c.beta2).range(0, 1).help("decay of the second moment; below 1");
  schema.add(s, "eps", &c.eps)
      .range(1e-30, 1)  // 0 / 0 is what 0 would make of a token that has not come up yet
      .help("added to the root of the second moment");
  schema.add(s, "weight_decay", &c.weight_decay).range(0, 10).help("on every parameter");
  schema.add(s, "state_dtype", &c.state_dtype)
      .one_of({DType::float32, DType::bfloat16})
      .help(
          "of the two moments; bfloat16: rounded at random, 4 bytes a parameter less in memory "
          "and in checkpoints (docs/sharding.md says what it costs)");
}

void add_lr_scheduler(DeckSchema& schema, LrSchedulerConfig& c) {
  const char* s = "lr_scheduler";
  schema.add(s, "type", &c.type)
      .help("decay after a linear warm-up; wsd: constant, then linear over decay_steps");
  schema.add(s, "min_lr_ratio", &c.min_lr_ratio)
      .range(0, 1)
      .help("the learning rate decays to this fraction of optimizer/lr");
  schema.add(s, "decay_steps", &c.decay_steps)
      .unit("steps")
      .range(0, 1000 * kMillion)
      .help("length of the decay at the end; wsd only, and needed there");
}

void add_training(DeckSchema& schema, TrainingConfig& c, ParallelConfig& p, DataConfig& d) {
  const char* s = "training";
  schema.add(s, "dataset", &d.dataset)
      .help(
          "text: documents are parted by blank lines; jsonl: the field text of each line; "
          "tokens: files of koios-tokenize; the others as they are published; docs/data.md");
  schema.add(s, "dataset_path", &d.dataset_path).help("file, folder or glob pattern");
  schema.add(s, "batch_size", &c.batch_size)
      .unit("sequences")
      .range(1, 1 << 20)
      .help("per data-parallel rank and micro-batch");
  schema.add(s, "seq_len", &c.seq_len)
      .unit("tokens")
      .range(1, 1 << 20)
      .help("length of a sequence");
  schema.add(s, "steps", &c.steps).unit("steps").range(1, 1000 * kMillion).help("of the whole run");
  schema.add(s, "warmup_steps", &c.warmup_steps)
      .unit("steps")
      .range(0, 1000 * kMillion)
      .help("of linear rise of the learning rate");
  schema.add(s, "max_norm", &c.max_norm)
      .range(1e-6, 1e9)
      .help("the gradient is scaled down to this global 2-norm");
  schema.add(s, "gradient_accumulation_steps", &c.gradient_accumulation_steps)
      .unit("micro-batches")
      .range(1, 1 << 20)
      .help("per step");
  schema.add(s, "reduce_every_micro_batch", &c.reduce_every_micro_batch)
      .help(
          "keep gradients sharded while accumulating; false: less traffic, more memory; auto: "
          "true, but with stages false");
  schema.add(s, "data_parallel_degree", &p.data_parallel)
      .unit("ranks")
      .range(-1, 1 << 20)
      .help("-1 = what the other degrees leave");
  schema.add(s, "data_parallel_replicate_degree", &p.data_parallel_replicate)
      .unit("ranks")
      .range(1, 1 << 20)
      .help("of these, copies of the model, each sharded over its own ranks; docs/sharding.md");
  schema.add(s, "tensor_parallel_degree", &p.tensor_parallel)
      .unit("ranks")
      .range(1, 1 << 14)
      .help(
          "share each layer: divides heads, ffn_dim, vocabulary and batch_size * seq_len / "
          "context_parallel_degree");
  schema.add(s, "context_parallel_degree", &p.context_parallel)
      .unit("ranks")
      .range(1, 1 << 14)
      .help(
          "share each sequence, and parameters: twice it divides seq_len; "
          "docs/context_parallel.md");
  schema.add(s, "pipeline_parallel_degree", &p.pipeline_parallel)
      .unit("ranks")
      .range(1, 1 << 14)
      .help("stages: each rank has some of the blocks; docs/pipeline.md");
  schema.add(s, "enable_loss_parallel", &p.enable_loss_parallel)
      .help("tensor-parallel ranks exchange the loss's sums; false: they gather the logits");
  schema.add(s, "reshard_after_forward", &c.reshard_after_forward)
      .help(
          "free gathered weights after a block's forward, but the last block's; auto: true, but "
          "with stages false");
  schema.add(s, "prefetch_blocks", &c.prefetch_blocks)
      .unit("blocks")
      .range(0, 64)
      .help("gathered ahead of the block being computed");
  schema.add(s, "keep_cast_shards", &c.keep_cast_shards)
      .help(
          "keep this rank's parameters in mixed_precision_param beside the float32 ones: the "
          "update writes both, and a gather casts nothing; not with fp8_linear; auto: where each "
          "rank holds all rows");
  schema.add(s, "mixed_precision_param", &c.mixed_precision_param)
      .one_of({std::nullopt, DType::bfloat16, DType::float32})
      .help("of weights and activations in compute; auto: bfloat16 on CUDA, float32 on the CPU");
  schema.add(s, "mixed_precision_reduce", &c.mixed_precision_reduce)
      .one_of({DType::float32, DType::bfloat16})
      .help("in which gradients are summed over ranks; bfloat16: half the traffic");
  schema.add(s, "fp8_linear", &c.fp8_linear)
      .may_be_empty()
      .help(
          "matrix products of the blocks in FP8; tensorwise: one scale a tensor, found each time "
          "(dynamic is the same); rowwise: one a row; block: one for each 1 x 128 of activations "
          "and 128 x 128 of weights; empty: none");
  schema.add(s, "fp8_skip_blocks", &c.fp8_skip_blocks)
      .may_be_empty()
      .help("blocks whose products stay in the compute type, counted from 0");
  schema.add(s, "fp8_fast_backward", &c.fp8_fast_backward)
      .help(
          "on GPUs, sums of the backward pass as those of the forward pass: faster, good to 2e-3 "
          "instead of 1e-4; not with block, which always sums in float32");
  schema.add(s, "fp8_scales", &c.fp8_scales)
      .help(
          "with tensorwise: scales are found in the tensor that they scale; previous: norms, "
          "swiglu and rope cast what they compute by twice the largest magnitude of the step "
          "before, which saves passes; what is still larger saturates (fp8/saturated)");
  schema.add(s, "on_nonfinite", &c.on_nonfinite)
      .help(
          "what a loss or gradient that is not finite does: end the run, skip the update, or "
          "nothing (continue), whatever becomes of the parameters");
  schema.add(s, "nonfinite_budget", &c.nonfinite_budget)
      .unit("steps")
      .range(0, kMillion)
      .help("with on_nonfinite = skip: that many in a row may be skipped, then the run ends");
}

void add_parallel(DeckSchema& schema, ParallelConfig& c) {
  schema.add("parallel", "async_tp", &c.async_tp)
      .help(
          "tensor-parallel ranks exchange rows piece by piece, beside the products that use "
          "them; not with fp8_linear; auto: where copy engines carry them");
  schema.add("parallel", "pipeline_schedule", &c.pipeline_schedule)
      .help(
          "order in which a stage takes micro-batches, which are those of "
          "gradient_accumulation_steps: 1f1b forward and backward by turns, interleaved_1f1b the "
          "same in pipeline_chunks rounds of the stages, zero_bubble weight gradients later, where "
          "a stage would wait, zero_bubble_v the same with a first run of blocks from stage to "
          "stage and a second one back, gpipe all forward first");
  schema.add("parallel", "pipeline_chunks", &c.pipeline_chunks)
      .range(2, 1024)
      .help(
          "with interleaved_1f1b: into how many runs, apart from each other, each stage's blocks "
          "fall");
  schema.add("parallel", "pipeline_layers", &c.pipeline_layers)
      .may_be_empty()
      .help(
          "blocks of each stage, such as 7,9,9,7; empty: so that all stages cost the same. With "
          "interleaved_1f1b and zero_bubble_v: of each run, in the order of the model");
}

void add_data(DeckSchema& schema, DataConfig& c) {
  const char* s = "data";
  schema.add(s, "streams", &c.streams)
      .unit("streams")
      .range(1, 1 << 16)
      .help("logical streams read in turn, whatever the number of ranks");
  schema.add(s, "shuffle", &c.shuffle)
      .help("documents, by the seed; false: the published order, as one stream");
  schema.add(s, "shuffle_window", &c.shuffle_window)
      .unit("documents")
      .range(1, 1000 * kMillion)
      .help("documents of a stream that are shuffled together");
  schema.add(s, "document_mask", &c.document_mask)
      .help("attention stays inside of documents; false: whole sequences");
  schema.add(s, "mixture", &c.mixture)
      .may_be_empty()
      .help(
          "several datasets in place of training/dataset and dataset_path: DATASET:PATH:WEIGHT, "
          "... with weights relative to each other");
  schema.add(s, "add_bos", &c.add_bos)
      .help("the tokenizer's mark of the beginning, before each document");
  schema.add(s, "add_eos", &c.add_eos)
      .help("its mark of the end, behind each document; one of the two must be on");
  schema.add(s, "on_bad_data", &c.on_bad_data)
      .help(
          "what a record or file that cannot be used does: end the run, or be left out and "
          "counted");
}

void add_validation(DeckSchema& schema, ValidationConfig& c) {
  const char* s = "validation";
  schema.add(s, "dataset", &c.dataset)
      .help("as training/dataset; of a folder with both parts of c4 the one for validation");
  schema.add(s, "dataset_path", &c.dataset_path)
      .may_be_empty()
      .help("held-out data: file, folder or glob pattern; empty: no validation");
  schema.add(s, "interval", &c.interval)
      .unit("steps")
      .range(1, 1000 * kMillion)
      .help("between two measurements of its loss; there is one after the last step too");
  schema.add(s, "steps", &c.steps)
      .unit("batches")
      .range(1, kMillion)
      .help(
          "of training/batch_size on every data-parallel rank, the same ones each time, in "
          "published order");
}

void add_checkpoint(DeckSchema& schema, CheckpointConfig& c) {
  const char* s = "checkpoint";
  schema.add(s, "folder", &c.folder)
      .may_be_empty()
      .help("under dump_folder; empty: no checkpoints");
  schema.add(s, "interval", &c.interval)
      .unit("steps or s")
      .range(1, 1000 * kMillion)
      .help("between two saves; the last step is always saved");
  schema.add(s, "interval_type", &c.interval_type).help("unit of interval");
  schema.add(s, "save_first_step", &c.save_first_step)
      .help("save step 1 too, so that what keeps saves from working is known at once");
  schema.add(s, "model_weights_only", &c.model_weights_only)
      .help("the last save holds the weights alone, and cannot be resumed");
  schema.add(s, "export_dtype", &c.export_dtype)
      .one_of({DType::float32, DType::float16, DType::bfloat16})
      .help("of these weights");
  schema.add(s, "async", &c.asynchronous)
      .help(
          "save from a copy in host memory while training goes on; 12 bytes a parameter, 8 with "
          "optimizer/state_dtype = bfloat16");
  schema.add(s, "io", &c.io)
      .help(
          "how values get into the file, which is the same: each rank writes its own at their "
          "places, or all together through parallel HDF5 over MPI-IO");
  schema.add(s, "resume", &c.resume)
      .help("auto continues from the newest good checkpoint, if there is one; none: starts anew");
  schema.add(s, "initial_load_path", &c.initial_load_path)
      .may_be_empty()
      .help(
          "a new run starts from these weights: a file of weights (tools/checkpoint.py from-hf "
          "makes "
          "one) or the model of a checkpoint; empty: from the seed");
  schema.add(s, "keep_latest_k", &c.keep_latest_k)
      .unit("checkpoints")
      .range(0, kMillion)
      .help("older ones are deleted; 0 = none are");
  schema.add(s, "keep_every", &c.keep_every)
      .unit("steps")
      .range(0, 1000 * kMillion)
      .help("multiples of this are never deleted; 0 = all may be");
}

void add_rest(DeckSchema& schema, RunConfig& c) {
  schema.add("activation_checkpoint", "mode", &c.activation_checkpoint.mode)
      .help("activations that the backward pass computes again: full keeps a block's input only");
  schema
      .add("activation_checkpoint", "selective_ac_option",
           &c.activation_checkpoint.selective_ac_option)
      .help(
          "mode selective: N = every N-th block wholly; op = norms and swiglu of all blocks; "
          "op_half = also wk, wo and w3");
  schema.add("comm", "init_timeout_seconds", &c.comm.init_timeout_seconds)
      .unit("s")
      .range(1, kWeek)
      .help(cat("each part of the start, and the first micro-batch, may take this long; MPI's own, "
                "before the deck is read, ",
                CommConfig::kLongestStartSeconds, " s, or what the command line gives here"));
  schema.add("comm", "train_timeout_seconds", &c.comm.train_timeout_seconds)
      .unit("s")
      .range(1, kWeek)
      .help("and each later micro-batch with its collectives; then the run is ended");
  schema.add("comm", "trace_buf_size", &c.comm.trace_buf_size)
      .unit("entries")
      .range(0, 100 * kMillion)
      .help("collectives kept for a report after a failure; 0 = none");
  schema.add("comm", "shard_transport", &c.comm.shard_transport)
      .help(
          "between GPUs: copy_engine leaves the multiprocessors to the computation, within one "
          "node; auto: that where it can, else nccl");
}

}  // namespace

DeckSchema make_run_schema(RunConfig& config) {
  DeckSchema schema;
  add_job(schema, config.job);
  add_metrics(schema, config.metrics);
  add_profiling(schema, config.profiling);
  add_model(schema, config.model);
  add_optimizer(schema, config.optimizer);
  add_lr_scheduler(schema, config.lr_scheduler);
  add_training(schema, config.training, config.parallel, config.data);
  add_parallel(schema, config.parallel);
  add_data(schema, config.data);
  add_validation(schema, config.validation);
  add_checkpoint(schema, config.checkpoint);
  add_rest(schema, config);
  for (const AbsentKey& key : absent_keys()) schema.add_absent(key);
  return schema;
}

}  // namespace koios
