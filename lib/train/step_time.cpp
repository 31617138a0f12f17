#include "train/step_time.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <deque>
#include <map>
#include <numeric>
#include <set>

#include "core/readable.hpp"
#include "train/flops.hpp"
#include "train/step_actions.hpp"
#include "train/step_work.hpp"
#include "train/traffic_plan.hpp"

namespace koios {
namespace {

using Kind = Action::Kind;

// The constants of the model beside a machine's rates; docs/planning.md says where each is from.

/// Of the time for which NCCL's kernels hold multiprocessors, the products beside them lose this.
constexpr double kSlowedByKernels = 0.3;
/// A collective that the computation waits for takes so much beside its bytes: it begins when the
/// last rank is there.
constexpr double kCollective_s = 120e-6;
/// Of what tensor-parallel ranks exchange in a block, the part that passes beside products, and how
/// much longer these take, as a part of that: asynchronous they are in pieces.
struct TensorOverlap {
  double hidden, costs;
};
constexpr TensorOverlap tensor_overlap(bool is_asynchronous, bool by_copies) {
  if (by_copies) return is_asynchronous ? TensorOverlap{0.75, 0.5} : TensorOverlap{0.4, 0.4};
  return is_asynchronous ? TensorOverlap{0.3, 0.8} : TensorOverlap{0, 0};
}
/// Stages run slower by this part: kernels of NCCL that wait for the next micro-batch hold
/// multiprocessors.
constexpr double kSlowedByReceives = 0.05;
/// Of the rate of the other kernels that the memory limits, those that cast to 8 bits reach this:
/// they read for the largest magnitude, then read again and write two layouts.
constexpr double kNarrowCasts = 0.85;
/// And those that cast as they compute: the mean by time of docs/performance_tries.md's table.
constexpr double kAtOnce = 0.80;
/// Of a ring over nodes, each rank adds so much to the time of a collective. Assumed.
constexpr double kHop_s = 5e-6;

std::string other_compute_type(const TrainingShape& shape, const MachineRates& rates) {
  return cat("no prediction of speed: the rates of ", rates.name, " (", rates.source,
             ") are for computing in ", to_string(rates.compute),
             ", and [training] mixed_precision_param is ", to_string(shape.compute));
}

struct Transfer {
  double seconds = 0;
  double slows = 0;  // seconds that it takes from the computation beside it
};

/// What the ranks of a step send to each other, as durations.
class Links {
 public:
  Links(const TrainingShape& shape, const MachineRates& rates, Nodes nodes)
      : shape_(shape), rates_(rates), groups_(node_groups(shape, nodes)) {
    // As comm/shard_transport chooses.
    copies_ = shape.backend == Backend::cuda && shape.reduce.scratch_factor > 0;
    shard_copies_ = goes_by_copies(groups_.shard);
    require_rates();
  }

  const NodeGroup& shard() const { return groups_.shard; }
  const NodeGroup& replicate() const { return groups_.replicate; }
  const NodeGroup& tensor() const { return groups_.tensor; }
  const NodeGroup& context() const { return groups_.context; }

  /// full: bytes of the whole, of which each rank has its part.
  Transfer gather(double full) const { return sharded(full, 2); }
  Transfer reduce(double full) const {
    Transfer t = sharded(full, 3);
    t.slows += 2 * full / groups_.shard.ranks / rates_.memory;
    return t;
  }
  Transfer all_reduce(double bytes) const {
    const double n = groups_.replicate.ranks;
    const double sent = 2 * (n - 1) / n * bytes;
    Transfer t = by_kernels(sent, groups_.replicate, 3);
    if (groups_.replicate.crosses_nodes()) t.seconds += 2 * std::log2(n) * kHop_s;
    return t;
  }
  /// One activation of `bytes` a rank, gathered or reduced: the computation waits for it.
  double tensor_exchange(double bytes) const {
    return bytes / rate(groups_.tensor, false) + kCollective_s + latency(groups_.tensor);
  }
  double context_seconds(double sent) const { return sent / rate(groups_.context, copies_); }
  /// Passes over the memory: as for shards, and the sums of all ranks' gradients, which are read
  /// as they are made, and read and written in float32.
  double context_slows(const ContextBytes& bytes) const {
    const double sums = static_cast<double>(bytes.reduce_scatter) / sizeof(float) * (2 + 4 + 4) *
                        groups_.context.ranks / (groups_.context.ranks - 1);
    return (2.0 * static_cast<double>(bytes.all_gather) +
            3.0 * static_cast<double>(bytes.reduce_scatter) + sums) /
           rates_.memory;
  }
  double stage_seconds(double sent) const { return sent / rate(groups_.stages, false); }
  TensorOverlap tensor_overlap_of(bool is_asynchronous) const {
    return tensor_overlap(is_asynchronous, goes_by_copies(groups_.tensor));
  }

 private:
  bool goes_by_copies(const NodeGroup& group) const { return copies_ && group.is_for_copies(); }
  void require_rates() const {
    if (shape_.compute != rates_.compute) throw UserError(other_compute_type(shape_, rates_));
    const auto names = missing_rates(rates_, shape_.fp8.recipe);
    std::string missing;
    for (const std::string& name : names) missing += cat(missing.empty() ? "" : ", ", name);
    bool is_any_group = false;
    bool is_any_crossing = false;
    for (const NodeGroup& group :
         {groups_.tensor, groups_.context, groups_.shard, groups_.replicate, groups_.stages}) {
      is_any_group = is_any_group || group.ranks > 1;
      is_any_crossing = is_any_crossing || group.crosses_nodes();
    }
    const auto require = [&](bool is_asked, double value, const char* name) {
      if (is_asked && value <= 0) missing += cat(missing.empty() ? "" : ", ", name);
    };
    require(is_any_group, rates_.collective, "collective_gbs");
    require(is_any_crossing, rates_.between_nodes, "between_nodes_gbs");
    if (missing.empty()) return;
    throw UserError(cat("no prediction of speed: the rates of ", rates_.name, " (", rates_.source,
                        ") lack ", missing, "; add them to the file of --rates"));
  }

  double rate(const NodeGroup& group, bool by_copies) const {
    if (!group.crosses_nodes())
      return by_copies && rates_.copy > 0 ? rates_.copy : rates_.collective;
    return std::min(rates_.collective, rates_.between_nodes * group.per_node);
  }
  static double latency(const NodeGroup& group) {
    return group.crosses_nodes() ? (group.ranks - 1) * kHop_s : 0;
  }
  /// passes: over the memory, for each byte that is sent.
  Transfer by_kernels(double sent, const NodeGroup& group, double passes) const {
    return {sent / rate(group, false),
            passes * sent / rates_.memory + kSlowedByKernels * sent / rates_.collective};
  }
  Transfer sharded(double full, double passes) const {
    const double sent = full / groups_.shard.ranks * (groups_.shard.ranks - 1);
    if (shard_copies_) return {sent / rate(groups_.shard, true), passes * sent / rates_.memory};
    Transfer t = by_kernels(sent, groups_.shard, passes);
    t.seconds += latency(groups_.shard);
    return t;
  }

  const TrainingShape& shape_;
  const MachineRates& rates_;
  NodeGroups groups_;
  bool copies_ = false;
  bool shard_copies_ = false;
};

/// The streams of a step as clocks: what is computed waits for the weights that it reads, and what
/// travels waits for what it sends and for the link.
class Timeline {
 public:
  Timeline(const TrainingShape& shape, const MachineRates& rates, const Links& links, int stage)
      : shape_(shape),
        rates_(rates),
        links_(links),
        local_(shape.stage(stage).local()),
        layout_(shard_layout(shape, shape.first_rank(stage))) {
    time_.stage = stage;
    for (const Action& action : training_actions(shape, layout_)) take(action);
  }

  const StepTime& time() const { return time_; }
  /// Of the passes of micro-batches alone.
  double passes_s() const { return passes_s_; }

 private:
  void take(const Action& action) {
    switch (action.kind) {
      case Kind::gather:
        return gather(action);
      case Kind::forward:
      case Kind::recompute:
      case Kind::backward:
      case Kind::backward_input:
      case Kind::backward_weight:
        return compute(action);
      case Kind::reduce:
        return reduce(action);
      case Kind::all_reduce:
        return all_reduce(action);
      case Kind::update:
        wait(reduced_, StepPart::reduce);
        wait(replicated_, StepPart::replicate);
        return work(action);
      default:
        return;
    }
  }

  void gather(const Action& action) {
    const double full = static_cast<double>(gathered_bytes(
        layout_.unit(action.unit), shape_.compute, layout_, shape_.gather, action.values));
    work(action);  // the cast, of which the memory sees as much wherever it runs
    if (layout_.ranks() == 1) return;
    const Transfer t = links_.gather(full);
    // What it awaits is through soon after the computation that it hides behind has begun.
    const double from = action.awaits_exchange ? began_ : now_;
    link_ = std::max(link_, from) + t.seconds;
    gathered_[action.unit] = link_;
    spend(StepPart::beside_communication, t.slows);
  }

  void compute(const Action& action) {
    const auto gathered = gathered_.find(action.unit);
    if (gathered != gathered_.end()) wait(gathered->second, StepPart::gather);
    const UnitLayout& unit = layout_.unit(action.unit);
    const bool writes_gradients =
        action.kind == Kind::backward || action.kind == Kind::backward_weight;
    // Blocks share two arrays of full gradients.
    if (writes_gradients && unit.role == UnitRole::block && leaving_.size() >= 2 &&
        shape_.reduce.every_micro_batch) {
      wait(leaving_.front(), StepPart::reduce);
      leaving_.pop_front();
    }
    began_ = now_;
    work(action);
    exchange(action, unit);
    passes_s_ += now_ - began_;
  }

  void reduce(const Action& action) {
    work(action);
    const UnitLayout& unit = layout_.unit(action.unit);
    const Transfer t = links_.reduce(static_cast<double>(unit.gathered_elements(layout_.ranks()) *
                                                         size_of(shape_.reduce.dtype)));
    link_ = std::max(link_, now_) + t.seconds;
    reduced_ = link_;
    if (unit.role == UnitRole::block) leaving_.push_back(link_);
    spend(StepPart::beside_communication, t.slows);
  }

  void all_reduce(const Action& action) {
    const UnitLayout& unit = layout_.unit(action.unit);
    const Transfer t =
        links_.all_reduce(static_cast<double>(unit.in_shard.count * size_of(shape_.reduce.dtype)));
    // Between nodes both kinds of groups use one link.
    const bool shares_link = links_.shard().crosses_nodes();
    const double from = std::max({replicated_, reduced_, now_, shares_link ? link_ : 0.0});
    replicated_ = from + t.seconds;
    if (shares_link) link_ = replicated_;
    spend(StepPart::beside_communication, t.slows);
  }

  void work(const Action& action) {
    const RankWork w = work_of(action, shape_, layout_);
    // With context-parallel ranks a call of attention is over one chunk's queries.
    const double chunk = static_cast<double>(local_.attention.seq_len);
    const double short_sequence = 1 + rates_.attention_tokens / chunk;
    const double gemm = w.gemm / rates_.gemm +
                        (w.gemm_narrow > 0 ? w.gemm_narrow / rates_.gemm_of(shape_.fp8.recipe) : 0);
    attention_s_ = short_sequence * (w.attention_forward / rates_.attention_forward +
                                     w.attention_backward / rates_.attention_backward);
    const bool again = action.kind == Kind::recompute;
    spend(again ? StepPart::recomputed : StepPart::gemm, gemm);
    spend(again ? StepPart::recomputed : StepPart::attention, attention_s_);
    spend(again ? StepPart::recomputed : StepPart::elementwise,
          (w.elementwise_bytes + w.at_once_bytes / kAtOnce) / rates_.memory);
    spend(again ? StepPart::recomputed : StepPart::casts,
          (w.cast_bytes + w.narrow_cast_bytes / kNarrowCasts) / rates_.memory);
    spend(StepPart::optimizer, w.optimizer_bytes / rates_.memory);
  }

  /// Between tensor-parallel and context-parallel ranks, within an action.
  void exchange(const Action& action, const UnitLayout& unit) {
    if (links_.tensor().ranks > 1) {
      const double elements =
          static_cast<double>(local_.rows * (links_.tensor().ranks - 1) * shape_.model.dim);
      const double sent = elements * static_cast<double>(size_of(shape_.compute));
      const Exchanges e = exchanges_of(action, shape_, unit);
      double seconds =
          static_cast<double>(e.gathers + e.reduce_scatters) * links_.tensor_exchange(sent);
      if (unit.role == UnitRole::block) {
        const auto [hidden, costs] = links_.tensor_overlap_of(shape_.tensor.asynchronous);
        spend(StepPart::beside_communication, seconds * hidden * costs);
        seconds *= 1 - hidden;
      }
      seconds += static_cast<double>(e.narrow_gathers) * links_.tensor_exchange(elements);
      seconds += static_cast<double>(e.amaxes) * links_.tensor_exchange(0);
      spend(StepPart::tensor, seconds);
    }
    if (links_.context().ranks > 1) {
      // Some heads travel while those before them are computed.
      const double rounds =
          static_cast<double>(local_.kv_heads) / static_cast<double>(local_.context.kv_heads);
      const ContextBytes bytes = context_bytes_of(action, shape_, local_, unit);
      const double seconds =
          links_.context_seconds(static_cast<double>(bytes.all_gather + bytes.reduce_scatter));
      spend(StepPart::context,
            std::max(seconds / rounds, seconds - attention_s_ * (rounds - 1) / rounds));
      spend(StepPart::beside_communication, links_.context_slows(bytes));
    }
  }

  void spend(StepPart part, double seconds) {
    now_ += seconds;
    time_[part] += seconds;
  }
  void wait(double until, StepPart part) { spend(part, std::max(0.0, until - now_)); }

  const TrainingShape& shape_;
  const MachineRates& rates_;
  const Links& links_;
  LocalShape local_;
  ShardLayout layout_;
  StepTime time_;
  double now_ = 0;    // of the computation
  double began_ = 0;  // its action at hand
  double link_ = 0;   // when what is on the way between the ranks of a shard group is there
  double reduced_ = 0;
  double replicated_ = 0;
  double attention_s_ = 0;  // of the action at hand
  double passes_s_ = 0;
  std::map<int, double> gathered_;  // when a unit's weights are there
  std::deque<double> leaving_;      // when the gradients of the last blocks are away
};

/// The slowest stage sets the pace: the others wait for it, and all for the first and the last
/// micro-batch on its way through the stages.
void add_pipeline(const TrainingShape& shape, const Links& links, double passes_s, StepTime& time) {
  const int stages = shape.mesh.size(Axis::pp);
  if (stages == 1) return;
  const int micro_batches = shape.reduce.micro_batches;
  const double idle = bubble(shape.pipeline.schedule, stages, shape.pipeline.runs, micro_batches);
  time[StepPart::beside_communication] += kSlowedByReceives * passes_s;
  time[StepPart::bubble] = (1 + kSlowedByReceives) * passes_s * idle / (1 - idle);
  const double all =
      links.stage_seconds(static_cast<double>(plan_traffic(shape, time.stage).pipeline_bytes));
  const double one = links.stage_seconds(static_cast<double>(
      shape.stage(time.stage).local().rows * shape.model.dim * size_of(shape.compute)));
  time[StepPart::pipeline] = 2 * (stages - 1) * one + std::max(0.0, all - passes_s);
}

}  // namespace

const char* to_string(StepPart part) {
  static constexpr const char* kNames[kStepParts] = {"matrix products",
                                                     "attention",
                                                     "norms, rope, swiglu, loss, embedding",
                                                     "casts and sums of gradients",
                                                     "optimizer",
                                                     "computed again",
                                                     "slowed by hidden communication",
                                                     "exposed: gathers of weights",
                                                     "exposed: reduction of gradients",
                                                     "exposed: replicas' all-reduce",
                                                     "exposed: tensor-parallel",
                                                     "exposed: context-parallel",
                                                     "exposed: between stages",
                                                     "pipeline bubble"};
  return kNames[static_cast<std::size_t>(part)];
}

double StepTime::total() const { return std::accumulate(seconds.begin(), seconds.end(), 0.0); }

double StepTime::exposed() const {
  double sum = 0;
  for (const StepPart part : {StepPart::gather, StepPart::reduce, StepPart::replicate,
                              StepPart::tensor, StepPart::context, StepPart::pipeline}) {
    sum += (*this)[part];
  }
  return sum;
}

namespace {

StepTime go_through(const TrainingShape& shape, const MachineRates& rates, const Links& links,
                    int stage) {
  const Timeline timeline(shape, rates, links, stage);
  StepTime time = timeline.time();
  add_pipeline(shape, links, timeline.passes_s(), time);
  return time;
}

/// Micro-batches in the middle of a step take equally long: of many, some are gone through.
StepTime time_of_stage(const TrainingShape& shape, const MachineRates& rates, const Links& links,
                       int stage) {
  const int stages = shape.mesh.size(Axis::pp);
  const int all = shape.reduce.micro_batches;
  const int few = 2 * stages;
  const int more = 3 * stages;
  if (all <= more) return go_through(shape, rates, links, stage);
  TrainingShape part = shape;
  part.reduce.micro_batches = few;
  StepTime time = go_through(part, rates, links, stage);
  part.reduce.micro_batches = more;
  const StepTime longer = go_through(part, rates, links, stage);
  for (int i = 0; i < kStepParts; ++i) {
    double& seconds = time.seconds[static_cast<std::size_t>(i)];
    seconds += (longer.seconds[static_cast<std::size_t>(i)] - seconds) * (all - few) / stages;
  }
  return time;
}

}  // namespace

StepTime predict_step(const TrainingShape& shape, const MachineRates& rates, Nodes nodes) {
  const Links links(shape, rates, nodes);
  // The slowest stage has the embedding, the head or the most operations.
  const std::vector<double> flops = shape.flops_of_stages();
  const auto most = std::ranges::max_element(flops) - flops.begin();
  const int last = shape.mesh.size(Axis::pp) - 1;
  StepTime slowest;
  for (const int stage : std::set<int>{0, static_cast<int>(most), last}) {
    const StepTime time = time_of_stage(shape, rates, links, stage);
    if (time.total() > slowest.total()) slowest = time;
  }
  return slowest;
}

RunPrediction predict_run(const TrainingShape& shape, const StepTime& time,
                          const MachineRates& rates, double tokens) {
  constexpr double kKwh_J = 3.6e6;
  RunPrediction run;
  run.step_s = time.total();
  const double ranks = shape.mesh.ranks();
  run.tokens_per_s = static_cast<double>(shape.tokens_per_step()) / run.step_s / ranks;
  std::string device = rates.name;
  std::ranges::transform(device, device.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (const auto peak = peak_flops(device)) {
    run.mfu = run.tokens_per_s * flops_per_token(shape.model, shape.micro_batch.seq_len) / *peak;
  }
  run.run_s = tokens / (run.tokens_per_s * ranks);
  run.energy_kwh = run.run_s * rates.power_w * ranks / kKwh_J;
  return run;
}

std::vector<std::string> describe_prediction(const TrainingShape& shape, const MachineRates& rates,
                                             Nodes nodes, double tokens) {
  if (shape.compute != rates.compute) return {other_compute_type(shape, rates)};
  const StepTime time = predict_step(shape, rates, nodes);
  const RunPrediction run = predict_run(shape, time, rates, tokens);
  const bool has_stages = shape.mesh.size(Axis::pp) > 1;
  std::vector<std::string> lines;
  lines.push_back(cat("predicted step on ", rates.name, ", ", nodes.ranks, " ranks a node",
                      has_stages ? cat(" (stage ", time.stage, ", the slowest)") : "", "; rates ",
                      rates.source, ":"));
  for (int part = 0; part < kStepParts; ++part) {
    const double seconds = time.seconds[static_cast<std::size_t>(part)];
    if (seconds <= 0) continue;
    lines.push_back(fmt::format("  {:<36} {:10.1f} ms  {:5.1f}%",
                                to_string(static_cast<StepPart>(part)), 1e3 * seconds,
                                100 * seconds / run.step_s));
  }
  lines.push_back(fmt::format("  step{:43.1f} ms", 1e3 * run.step_s));
  lines.push_back(cat("predicted speed: ", with_commas(std::llround(run.tokens_per_s)),
                      " tokens/s of each rank, ",
                      with_commas(std::llround(run.tokens_per_s * shape.mesh.ranks())), " of all, ",
                      with_commas(shape.tokens_per_step()), " tokens a step",
                      run.mfu > 0 ? fmt::format(", mfu {:.1f}%", 100 * run.mfu) : ""));
  const std::string energy =
      fmt::format(", {:.3g} kWh for the GPUs at {:.0f} W each", run.energy_kwh, rates.power_w);
  lines.push_back(fmt::format("predicted time to {:.3g} tokens: {}{}", tokens, duration(run.run_s),
                              run.energy_kwh > 0 ? energy : ""));
  return lines;
}

}  // namespace koios
