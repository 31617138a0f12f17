#include "train/step_log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "checkpoint/checksum.hpp"
#include "comm/host_reduce.hpp"
#include "core/free_memory.hpp"
#include "core/log.hpp"
#include "metrics/metric_keys.hpp"

namespace koios {
namespace {

double to_gib(double bytes) { return bytes / (1 << 30); }

constexpr double kNoTemperature = -1000;

std::optional<double> difference(std::optional<double> now, std::optional<double> before) {
  if (!now || !before || *now < *before) return std::nullopt;  // the driver was loaded anew
  return *now - *before;
}

double lap_of(const Timers::Totals& laps, std::string_view name) {
  const auto at =
      std::find_if(laps.begin(), laps.end(), [&](const auto& l) { return l.first == name; });
  return at == laps.end() ? 0 : at->second;
}

std::vector<int> stages_of_ranks(const MeshShape& mesh) {
  std::vector<int> stages;
  for (int rank = 0; rank < mesh.ranks(); ++rank) stages.push_back(mesh.coordinate(rank, Axis::pp));
  return stages;
}

}  // namespace

WaitSeconds host_waits(const Mesh& mesh) {
  WaitSeconds waits = {
      .gather = mesh.shard_gather().host_seconds(),
      .reduce = mesh.shard_reduce().host_seconds() + mesh.replicate().host_seconds(),
      .tensor = mesh.tp().host_seconds(),
      .context = mesh.context().host_seconds() + mesh.context_reversed().host_seconds()};
  for (const Communicator* link : mesh.links()) waits.pipeline += link->host_seconds();
  return waits;
}

StepLog::StepLog(const TrainingShape& shape, const Mesh& mesh, const Facts& facts,
                 const RunState& start, MetricsWriter* writer, Console& console)
    : shape_(shape),
      mesh_(mesh),
      facts_(facts),
      writer_(writer),
      console_(console),
      first_step_(start.step),
      tokens_before_(start.tokens),
      losses_(start.losses),
      stages_(stages_of_ranks(shape.mesh)),
      slow_rank_(stages_),
      sensors_(facts.pci_bus),
      energy_j_(sensors_.read().energy_j) {}

void StepLog::add_samples(const Batch& batch) {
  // Ranks that have the same tokens count them once.
  const MeshShape& mesh = shape_.mesh;
  if (mesh.coordinate(mesh_.rank(), Axis::tp) != 0) return;
  if (mesh.coordinate(mesh_.rank(), Axis::pp) != 0) return;
  const std::int64_t chunk_len = batch.part.chunk_len(batch.seq_len);
  const std::int32_t* tokens = batch.tokens.data();
  for (std::int64_t sequence = 0; sequence < batch.sequences; ++sequence) {
    for (int chunk = 0; chunk < batch.part.chunks(); ++chunk, tokens += chunk_len) {
      const std::int64_t first = (batch.first_sample + sequence) * batch.seq_len;
      samples_hash_ += checksum(tokens, size_of(DType::int32),
                                {first + batch.part.begin(chunk, batch.seq_len), chunk_len});
    }
  }
}

std::int64_t StepLog::tokens_seen(std::int64_t step) const {
  return tokens_before_ + (step - first_step_) * shape_.tokens_per_step();
}

void StepLog::add(const StepResult& result, bool is_skipped) {
  skipped_steps_ += is_skipped ? 1 : 0;
  loss_sum_ += result.loss;
  loss_max_ = steps_ == 0 ? result.loss : std::max(loss_max_, result.loss);
  grad_norm_ = result.grad_norm;
  ++steps_;
}

void StepLog::read_machine(const DeviceEnv& device) {
  machine_ = {.gpu = sensors_.read(),
              .reserved_bytes = device.reserved_bytes(),
              .resident_bytes = resident_host_bytes(),
              .free_bytes = free_host_memory().bytes};
}

StepLog::Interval StepLog::bring_together(Timers& timers) {
  const auto steps = static_cast<double>(steps_);
  const auto ranks = static_cast<double>(mesh_.size());
  const double elapsed_s = since_last_.lap() - std::exchange(excluded_s_, 0.0);
  const Timers::Totals laps = timers.lap();
  const bool on_host = shape_.backend == Backend::host;
  const WaitSeconds host = std::exchange(waits_, {}) / steps;
  const WaitSeconds exposed = std::exchange(exposed_, {}) / steps;
  const double comm_s = on_host ? lap_of(laps, "communication") / steps : exposed.total();
  const WaitSeconds parts = on_host ? host : exposed;
  const GpuReading& gpu = machine_.gpu;
  const std::optional<double> energy_j = difference(gpu.energy_j, energy_j_);
  energy_j_ = gpu.energy_j;

  // One sum and one maximum over the ranks bring all together.
  std::vector<double> sums = {loss_sum_ / steps,
                              lap_of(laps, "data") / steps,
                              comm_s,
                              static_cast<double>(static_cast<std::uint32_t>(samples_hash_)),
                              parts.gather,
                              parts.reduce,
                              parts.tensor,
                              parts.pipeline,
                              parts.context};
  const std::size_t sensors_at = sums.size();
  // The counter of energy moves every 0.1 s or so.
  constexpr double kLongEnough_s = 2;
  const std::optional<double> power_w =
      energy_j && elapsed_s >= kLongEnough_s ? *energy_j / elapsed_s : gpu.power_w;
  for (const auto& value : {gpu.utilization_pct, power_w, gpu.clock_mhz, energy_j}) {
    sums.push_back(value.value_or(0));
    sums.push_back(value ? 1 : 0);
  }
  const std::size_t fp8_at = sums.size();
  const Fp8Counts told = std::exchange(fp8_counts_told_, fp8_counts_);
  for (std::size_t i = 0; i < told.size(); ++i) {
    sums.push_back(static_cast<double>(fp8_counts_[i] - told[i]));
  }
  const std::size_t by_rank_at = sums.size();
  constexpr std::size_t kByRank = 3;
  sums.resize(by_rank_at + kByRank * static_cast<std::size_t>(mesh_.size()));
  const std::size_t mine = by_rank_at + kByRank * static_cast<std::size_t>(mesh_.rank());
  sums[mine] = elapsed_s / steps;
  sums[mine + 1] = comm_s;
  // Ranks also meet to decide what follows a step; a GPU computes meanwhile.
  const double meetings_s = std::exchange(meetings_s_, mesh_.host_world().host_seconds());
  const double met_s = on_host ? (meetings_s_ - meetings_s) / steps : 0;
  sums[mine + 2] = std::max(0.0, elapsed_s / steps - comm_s - met_s);
  std::array<double, 8> maxima = {loss_max_,
                                  elapsed_s,
                                  static_cast<double>(machine_.reserved_bytes),
                                  static_cast<double>(machine_.resident_bytes),
                                  -static_cast<double>(machine_.free_bytes),
                                  static_cast<double>(skipped_steps_),
                                  lap_of(laps, "checkpoint"),
                                  gpu.temperature_c.value_or(kNoTemperature)};
  all_reduce_sum(mesh_.host_world(), sums);
  all_reduce_max(mesh_.host_world(), maxima);

  // Only the ranks of the stage with the head have one.
  const double loss = sums[0] / ranks * shape_.mesh.size(Axis::pp);
  const auto mean_sensor = [&](std::size_t i) -> std::optional<double> {
    const double count = sums[sensors_at + 2 * i + 1];
    if (count == 0) return std::nullopt;
    return sums[sensors_at + 2 * i] / count;
  };
  Interval all = {.loss = loss,
                  // A NaN on any rank must show: MPI's maximum may drop it, so the sum decides.
                  .loss_max = std::isfinite(loss) ? maxima[0] : loss,
                  .skipped_steps = maxima[5],
                  .step_s = maxima[1] / steps,
                  .data_s = sums[1] / ranks,
                  .comm_s = sums[2] / ranks,
                  .parts_s = {sums[4] / ranks, sums[5] / ranks, sums[6] / ranks, sums[7] / ranks,
                              sums[8] / ranks},
                  .checkpoint_s = maxima[6],
                  .samples_hash = std::fmod(sums[3], 0x1p32),
                  .fp8_counts = {sums[fp8_at], sums[fp8_at + 1]},
                  .reserved_bytes = maxima[2],
                  .resident_bytes = maxima[3],
                  .free_bytes = -maxima[4],
                  .gpu = {},
                  .step_s_by_rank = {},
                  .comm_s_by_rank = {},
                  .own_s_by_rank = {}};
  all.gpu.utilization_pct = mean_sensor(0);
  all.gpu.power_w = mean_sensor(1);
  all.gpu.clock_mhz = mean_sensor(2);
  if (maxima[7] > kNoTemperature) all.gpu.temperature_c = maxima[7];
  // Of all ranks or of none: a sum over some would be the energy of no step.
  if (sums[sensors_at + 7] == ranks) all.gpu.energy_j = sums[sensors_at + 6];
  for (std::size_t at = by_rank_at; at < sums.size(); at += kByRank) {
    all.step_s_by_rank.push_back(sums[at]);
    all.comm_s_by_rank.push_back(sums[at + 1]);
    all.own_s_by_rank.push_back(sums[at + 2]);
  }
  return all;
}

void StepLog::write(std::int64_t step, double lr, Timers& timers,
                    const std::optional<ValidationResult>& validation) {
  const Interval all = bring_together(timers);
  if (writer_ != nullptr) write_row(step, lr, all, validation);
  tell_slow_rank(all);
  console_.step_line({.step = step,
                      .steps = facts_.steps,
                      .loss = all.loss,
                      .grad_norm = grad_norm_,
                      .lr = lr,
                      .step_time_s = all.step_s,
                      .tok_per_s_per_rank = tokens_per_second_per_rank(all),
                      .mfu_pct = mfu_pct(all, AttentionCount::full),
                      .peak_gib = to_gib(all.reserved_bytes)});
  if (validation) {
    console_.validation_line({.step = step,
                              .steps = facts_.steps,
                              .loss = validation->loss,
                              .perplexity = validation->perplexity(),
                              .sequences = validation->sequences,
                              .seconds = validation->seconds});
  }
  losses_.push_back({step, all.loss, all.loss_max});
  steps_ = 0;
  loss_sum_ = 0;
  samples_hash_ = 0;
  skipped_steps_ = 0;
}

void StepLog::tell_slow_rank(const Interval& all) {
  const auto slow = slow_rank_.add(steps_, all.own_s_by_rank, all.step_s);
  if (!slow || mesh_.rank() != 0) return;
  log::warning(fmt::format(
      "rank {} on {} works {:.3g} times as long as the other ranks ({:.3g} s a step, their median "
      "is {:.3g} s) over the last {} steps: they wait for it",
      slow->rank, facts_.hosts[static_cast<std::size_t>(slow->rank)], slow->factor(), slow->own_s,
      slow->others_s, slow->steps));
}

void StepLog::write_row(std::int64_t step, double lr, const Interval& all,
                        const std::optional<ValidationResult>& validation) {
  using enum AttentionCount;
  const double tok_per_s = tokens_per_second_per_rank(all);
  const auto active = static_cast<double>(facts_.arena_bytes);
  const auto share = [&](double bytes) -> std::optional<double> {
    if (facts_.device_bytes == 0) return std::nullopt;
    return 100 * bytes / static_cast<double>(facts_.device_bytes);
  };
  std::vector<Metric> row = {{metric::kLossAvg, all.loss},
                             {metric::kLossMax, all.loss_max},
                             {metric::kGradNorm, grad_norm_},
                             {metric::kLearningRate, lr},
                             {metric::kTokensSeen, static_cast<double>(tokens_seen(step))},
                             {metric::kSamplesHash, all.samples_hash},
                             {metric::kTokensPerSecondPerRank, tok_per_s},
                             {metric::kTokensPerSecond, tok_per_s * mesh_.size()},
                             {metric::kTflops, flops_per_second(all, full) / 1e12},
                             {metric::kTflopsCausal, flops_per_second(all, causal) / 1e12},
                             {metric::kMfuPct, mfu_pct(all, full)},
                             {metric::kMfuCausalPct, mfu_pct(all, causal)},
                             {metric::kSkippedSteps, all.skipped_steps},
                             {metric::kStepTime, all.step_s},
                             {metric::kDataTime, all.data_s},
                             {metric::kDataPct, 100 * all.data_s / all.step_s},
                             {metric::kCommTime, all.comm_s},
                             {metric::kCommPct, 100 * all.comm_s / all.step_s},
                             {metric::kCommGather, all.parts_s.gather},
                             {metric::kCommReduce, all.parts_s.reduce},
                             {metric::kCommTensor, all.parts_s.tensor},
                             {metric::kCommPipeline, all.parts_s.pipeline},
                             {metric::kCommContext, all.parts_s.context},
                             {metric::kCheckpointStall, all.checkpoint_s},
                             {metric::kMemoryActive, to_gib(active)},
                             {metric::kMemoryActivePct, share(active)},
                             {metric::kMemoryReserved, to_gib(all.reserved_bytes)},
                             {metric::kMemoryReservedPct, share(all.reserved_bytes)},
                             {metric::kHostResident, to_gib(all.resident_bytes)},
                             {metric::kHostFree, to_gib(all.free_bytes)}};
  const auto add_known = [&](std::string_view key, std::optional<double> value) {
    if (value) row.push_back({key, value});
  };
  if (shape_.fp8.is_on()) {
    const auto count = [&](Fp8Count which) {
      return all.fp8_counts[static_cast<std::size_t>(which)];
    };
    row.push_back({metric::kFp8Saturated, count(Fp8Count::saturated)});
    row.push_back({metric::kFp8ZeroAmax, count(Fp8Count::zero_amax)});
  }
  if (const auto slowest = slowest_rank(all.own_s_by_rank, stages_)) {
    row.push_back({metric::kSlowestRank, slowest->factor()});
  }
  add_known(metric::kGpuUtilization, all.gpu.utilization_pct);
  add_known(metric::kGpuPower, all.gpu.power_w);
  add_known(metric::kGpuClock, all.gpu.clock_mhz);
  add_known(metric::kGpuTemperature, all.gpu.temperature_c);
  if (all.gpu.energy_j) {
    const double tokens = static_cast<double>(shape_.tokens_per_step() * steps_);
    row.push_back({metric::kEnergyPerToken, *all.gpu.energy_j / tokens});
  }
  if (validation) {
    row.push_back({metric::kValidationLoss, validation->loss});
    row.push_back({metric::kValidationPerplexity, validation->perplexity()});
    row.push_back({metric::kValidationTime, validation->seconds});
  }
  const std::array<MetricByRank, 2> by_rank = {{{metric::kStepTimeByRank, all.step_s_by_rank},
                                                {metric::kCommTimeByRank, all.comm_s_by_rank}}};
  writer_->row(step, row, by_rank);
}

double StepLog::tokens_per_second_per_rank(const Interval& all) const {
  return static_cast<double>(shape_.tokens_per_step()) / all.step_s / mesh_.size();
}

double StepLog::flops_per_second(const Interval& all, AttentionCount count) const {
  return tokens_per_second_per_rank(all) *
         flops_per_token(shape_.model, shape_.micro_batch.seq_len, count);
}

std::optional<double> StepLog::mfu_pct(const Interval& all, AttentionCount count) const {
  if (!facts_.peak_flops) return std::nullopt;
  return 100 * flops_per_second(all, count) / *facts_.peak_flops;
}

}  // namespace koios
