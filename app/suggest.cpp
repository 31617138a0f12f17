#include "app/suggest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <utility>

#include "app/deck_agreement.hpp"
#include "app/deck_setup.hpp"
#include "app/failure.hpp"
#include "app/planner.hpp"
#include "config/parallel_degrees.hpp"
#include "config/validate.hpp"
#include "core/printable.hpp"
#include "core/readable.hpp"
#include "train/training_memory.hpp"

namespace koios {
namespace {

constexpr std::size_t kShown = 10;
constexpr std::int64_t kLargestBatch = 16;  // more gains nothing, by the prediction
constexpr int kMostStages = 64;
constexpr std::int64_t kShortestPart = 4096;  // of a sequence that context-parallel ranks share

using Overrides = std::vector<std::string>;

Overrides operator+(Overrides a, const Overrides& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Degrees {
  int tp = 1, cp = 1, pp = 1, replicate = 1;
};

struct Candidate {
  Degrees degrees;
  Overrides overrides;
  std::int64_t planned_bytes = 0;
  TrainingShape shape;
  StepTime time;
  RunPrediction run;
};

/// What a deck may say that other degrees would not go with: put back to the defaults.
Overrides without_degrees(const ParallelConfig& deck) {
  const ParallelConfig plain;
  Overrides overrides;
  const auto add = [&](bool differs, const char* override) {
    if (differs) overrides.emplace_back(override);
  };
  add(deck.data_parallel != plain.data_parallel, "training/data_parallel_degree=-1");
  add(deck.pipeline_schedule != plain.pipeline_schedule, "parallel/pipeline_schedule=1f1b");
  add(deck.pipeline_chunks != plain.pipeline_chunks, "parallel/pipeline_chunks=2");
  add(!deck.pipeline_layers.empty(), "parallel/pipeline_layers=");
  return overrides;
}

/// Those that differ from the deck's.
Overrides degrees_overrides(const Degrees& d, const ParallelConfig& deck) {
  Overrides overrides;
  const auto add = [&](const char* key, int degree, int of_deck) {
    if (degree != of_deck) overrides.push_back(cat("training/", key, "_degree=", degree));
  };
  add("tensor_parallel", d.tp, deck.tensor_parallel);
  add("context_parallel", d.cp, deck.context_parallel);
  add("pipeline_parallel", d.pp, deck.pipeline_parallel);
  add("data_parallel_replicate", d.replicate, deck.data_parallel_replicate);
  return overrides;
}

/// From the one that costs nothing to the one that keeps least.
const std::vector<Overrides>& recomputations() {
  static const std::vector<Overrides> all = {
      {"activation_checkpoint/mode=none"},
      {"activation_checkpoint/mode=selective", "activation_checkpoint/selective_ac_option=op"},
      {"activation_checkpoint/mode=selective", "activation_checkpoint/selective_ac_option=2"},
      {"activation_checkpoint/mode=full"}};
  return all;
}

std::vector<Overrides> schedules(const Degrees& d) {
  if (d.pp == 1) return {{}};
  return {{"parallel/pipeline_schedule=1f1b"},
          {"parallel/pipeline_schedule=interleaved_1f1b", "parallel/pipeline_chunks=2"},
          {"parallel/pipeline_schedule=interleaved_1f1b", "parallel/pipeline_chunks=4"},
          {"parallel/pipeline_schedule=zero_bubble"},
          {"parallel/pipeline_schedule=zero_bubble_v"}};
}

class Search {
 public:
  Search(const Planner& planner, const CommandLine& line, const MachineRates& rates,
         const RunConfig& config, std::int64_t sequences)
      : planner_(planner),
        ranks_(*line.ranks),
        nodes_(nodes_of(line)),
        most_bytes_(most_planned_bytes(*line.gpu)),
        rates_(rates),
        config_(config),
        base_(without_degrees(config.parallel)),
        needs_copies_(config.comm.shard_transport == ShardTransport::copy_engine),
        sequences_(sequences),
        tokens_(line.prediction.tokens.value_or(0)) {}

  /// The best of all that differ in more than copies of the model, the fastest first.
  std::vector<Candidate> run() {
    const int most_tp = std::min({nodes_.ranks, ranks_, 1 << 16});
    for (int tp = 1; tp <= most_tp; tp *= 2) {
      for (int cp = 1; cp == 1 || config_.training.seq_len / cp >= kShortestPart; cp *= 2) {
        for (int pp = 1; pp <= std::min<std::int64_t>(kMostStages, config_.model.n_layers);
             pp *= 2) {
          const std::int64_t others = std::int64_t{tp} * cp * pp;
          if (ranks_ % others != 0) continue;
          try_replicas({tp, cp, pp, 1}, static_cast<int>(ranks_ / others));
        }
      }
    }
    std::ranges::stable_sort(best_, [](const Candidate& a, const Candidate& b) {
      return a.run.tokens_per_s > b.run.tokens_per_s;
    });
    return std::move(best_);
  }

  /// Why the deck goes with no mesh that divides the sequences; empty where it goes with one.
  std::string refusal() const { return is_any_allowed_ ? "" : refusal_; }

 private:
  void try_replicas(Degrees d, int data) {
    if (sequences_ % data != 0) return;
    std::optional<Candidate> best;
    for (int shard = data;; shard /= 2) {
      d.replicate = data / shard;
      try_mesh(d, sequences_ / data, best);
      // Copies smaller than a node only take memory.
      if (shard % 2 != 0 || shard * d.cp * d.tp <= nodes_.ranks) break;
    }
    if (best) best_.push_back(std::move(*best));
  }

  void try_mesh(const Degrees& d, std::int64_t sequences_of_rank, std::optional<Candidate>& best) {
    for (std::int64_t batch = 1; batch <= kLargestBatch && sequences_of_rank % batch == 0;
         batch *= 2) {
      for (const Overrides& schedule : schedules(d)) {
        const Overrides mesh =
            base_ + degrees_overrides(d, config_.parallel) + schedule +
            Overrides{cat("training/batch_size=", batch),
                      cat("training/gradient_accumulation_steps=", sequences_of_rank / batch)};
        if (auto found = mildest_that_fits(d, mesh, best)) best = std::move(found);
      }
    }
  }

  /// Nothing where that is not faster than `best`.
  std::optional<Candidate> mildest_that_fits(const Degrees& d, const Overrides& mesh,
                                             const std::optional<Candidate>& best) {
    for (const Overrides& recomputation : recomputations()) {
      const Overrides overrides = mesh + recomputation;
      std::string why;
      auto shape = planner_.shape_with(overrides, ranks_, &why);
      if (shape && needs_copies_ && !node_groups(*shape, nodes_).copy_engines_reach()) {
        why = "[comm] shard_transport = copy_engine: groups of ranks would cross nodes";
        shape.reset();
      }
      is_any_allowed_ = is_any_allowed_ || shape;
      if (refusal_.empty()) refusal_ = why;
      if (!shape) continue;
      // The first stage has the most micro-batches in flight, mostly.
      if (plan_memory(*shape).total_bytes > most_bytes_) continue;
      const std::int64_t bytes = largest(plan_memory_of_stages(*shape)).total_bytes;
      if (bytes > most_bytes_) continue;
      const StepTime time = predict_step(*shape, rates_, nodes_);
      const RunPrediction run = predict_run(*shape, time, rates_, tokens_);
      if (best && best->run.tokens_per_s >= run.tokens_per_s) return std::nullopt;
      return Candidate{d, overrides, bytes, std::move(*shape), time, run};
    }
    return std::nullopt;
  }

  const Planner& planner_;
  int ranks_;
  Nodes nodes_;
  std::int64_t most_bytes_;
  const MachineRates& rates_;
  const RunConfig& config_;
  Overrides base_;
  bool needs_copies_;
  std::int64_t sequences_;
  double tokens_;  // of the whole run, where they are asked for
  std::vector<Candidate> best_;
  bool is_any_allowed_ = false;
  std::string refusal_;
};

/// What one GPU with room for everything would not spend, the largest first.
std::string limits_of(const StepTime& time) {
  std::vector<std::pair<double, StepPart>> parts;
  for (const StepPart part :
       {StepPart::recomputed, StepPart::beside_communication, StepPart::gather, StepPart::reduce,
        StepPart::replicate, StepPart::tensor, StepPart::context, StepPart::pipeline,
        StepPart::bubble}) {
    parts.emplace_back(time[part] / time.total(), part);
  }
  std::ranges::stable_sort(parts, [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string text;
  for (const auto& [share, part] : parts) {
    if (share < 0.005) break;
    text += fmt::format("{}{} {:.1f}%", text.empty() ? "" : ", ", to_string(part), 100 * share);
  }
  return text.empty() ? "nothing but the computation" : text;
}

void print(const Candidate& c, std::size_t number) {
  // Of a GPU whose peak is known.
  const std::string mfu = c.run.mfu > 0 ? fmt::format(", mfu {:.1f}%", 100 * c.run.mfu) : "";
  const std::string run = c.run.run_s > 0 ? cat(", run ", duration(c.run.run_s)) : "";
  std::cout << fmt::format(
      "{}. {} tokens/s of each rank{}, step {}{}, plan {}: {}\n   limits: {}\n  ", number,
      with_commas(std::llround(c.run.tokens_per_s)), mfu, duration(c.run.step_s), run,
      gib(c.planned_bytes), c.shape.mesh.describe(), limits_of(c.time));
  for (const std::string& override : c.overrides) std::cout << " " << override;
  std::cout << "\n";
}

/// Of a step over all ranks, as the deck's degrees would have it on them.
std::int64_t sequences_of_deck(const RunConfig& config, int ranks) {
  const std::string problem = mesh_problem(config.parallel, ranks);
  if (!problem.empty()) {
    throw CommandLineError(
        cat("the deck's own degrees do not make up ", ranks,
            " ranks, so that it does not say how many sequences a step has; give "
            "--sequences G (",
            problem, ")"));
  }
  return config.training.batch_size * config.training.gradient_accumulation_steps *
         mesh_shape(config, ranks).dp();
}

}  // namespace

ExitCode suggest(const CommandLine& line) {
  const int ranks = *line.ranks;
  // Its degrees are the ones that are looked for: all other rules are asked of it on one rank.
  RunConfig as_written;
  const auto deck = parse_alone(line.deck, line.overrides, [&](const ParsedDeck& parsed) {
    as_written = parsed.config;
    ParsedDeck plain = parsed;
    plain.config.parallel = ParallelConfig{};
    for (const char* key : {"schedule", "chunks", "layers"}) {
      plain.keys.at(cat("parallel/pipeline_", key)).is_default = true;
    }
    return check_deck(plain, 1);
  });
  if (!deck) return ExitCode::bad_input;
  const std::optional<MachineRates> rates = rates_of(line);
  if (!rates) {
    throw CommandLineError(cat("no rates of ", line.gpu->name,
                               " are known: --suggest takes --gpu h100 or h200, or --rates FILE"));
  }
  const auto& asked = line.prediction.sequences;
  const std::int64_t sequences = asked ? *asked : sequences_of_deck(as_written, ranks);
  const std::int64_t vocab_size = planned_vocabulary(as_written.model);
  const Planner planner(deck->text, line.overrides, Backend::cuda, vocab_size);
  Search search(planner, line, *rates, as_written, sequences);
  std::vector<Candidate> found = search.run();
  std::cout << "meshes for " << as_written.model.flavor << " on " << ranks << " " << rates->name
            << ", " << nodes_of(line).ranks << " a node; " << with_commas(sequences)
            << " sequences of " << as_written.training.seq_len << " tokens a step; rates "
            << printable(rates->source) << "\n";
  if (found.empty() && !search.refusal().empty()) {
    std::cout << "none is allowed: " << printable(search.refusal()) << "\n";
    return ExitCode::failure;
  }
  if (found.empty()) {
    std::cout << "none fits, or none divides these sequences over the ranks: more GPUs, other "
                 "--sequences, "
              << (as_written.optimizer.state_dtype == DType::float32
                      ? "optimizer/state_dtype=bfloat16, "
                      : "")
              << "or a shorter training/seq_len\n";
    return ExitCode::failure;
  }
  if (found.size() > kShown) found.resize(kShown);
  for (std::size_t i = 0; i < found.size(); ++i) print(found[i], i + 1);
  return ExitCode::done;
}

}  // namespace koios
