#include "train/step_log.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "checkpoint/checksum.hpp"
#include "comm/host_reduce.hpp"
#include "core/log.hpp"
#include "metrics/metric_keys.hpp"
#include "train/flops.hpp"

namespace koios {
namespace {

double to_gib(double bytes) { return bytes / (1 << 30); }

double lap_of(const Timers::Totals& laps, std::string_view name) {
  const auto at =
      std::find_if(laps.begin(), laps.end(), [&](const auto& l) { return l.first == name; });
  return at == laps.end() ? 0 : at->second;
}

/// The norm is the same on every rank; a loss is each rank's own.
void report_nonfinite(const StepResult& result, std::int64_t step, OnNonfinite policy, int rank) {
  const std::string what = cat("step ", step, ": loss ", result.loss, ", gradient norm ",
                               result.grad_norm, "; its update was skipped");
  if (policy == OnNonfinite::stop) {
    throw UserError(cat(what,
                        ". Lower [optimizer] lr or [training] max_norm, or set [training] "
                        "on_nonfinite = skip to go on"));
  }
  if (rank == 0 || std::isfinite(result.grad_norm)) log::warning(what);
}

}  // namespace

StepLog::StepLog(const TrainingShape& shape, const Mesh& mesh, const Facts& facts,
                 const RunState& start, MetricsWriter* writer, Console& console)
    : shape_(shape),
      mesh_(mesh),
      facts_(facts),
      writer_(writer),
      console_(console),
      first_step_(start.step),
      tokens_before_(start.tokens),
      losses_(start.losses) {}

void StepLog::add_samples(const Batch& batch) {
  // Ranks that share their samples count them once.
  if (shape_.mesh.coordinate(mesh_.rank(), Axis::tp) != 0) return;
  samples_hash_ += checksum(batch.tokens.data(), size_of(DType::int32),
                            batch.first_sample * batch.seq_len, std::ssize(batch.tokens));
}

std::int64_t StepLog::tokens_seen(std::int64_t step) const {
  return tokens_before_ + (step - first_step_) * shape_.tokens_per_step();
}

void StepLog::add(const std::vector<StepResult>& results, std::int64_t last_step,
                  OnNonfinite policy) {
  std::int64_t step = last_step - static_cast<std::int64_t>(results.size());
  for (const StepResult& r : results) {
    ++step;
    if (!std::isfinite(r.loss) || !std::isfinite(r.grad_norm)) {
      report_nonfinite(r, step, policy, mesh_.rank());
    }
    loss_sum_ += r.loss;
    loss_max_ = steps_ == 0 ? r.loss : std::max(loss_max_, r.loss);
    grad_norm_ = r.grad_norm;
    ++steps_;
  }
}

StepLog::Interval StepLog::bring_together(std::int64_t reserved_bytes, double exposed_s,
                                          Timers& timers) {
  const auto steps = static_cast<double>(steps_);
  const auto ranks = static_cast<double>(mesh_.size());
  const double elapsed_s = since_last_.lap() - std::exchange(excluded_s_, 0.0);
  const Timers::Totals laps = timers.lap();
  const bool on_host = shape_.backend == Backend::host;
  std::array<double, 4> sums = {loss_sum_ / steps, lap_of(laps, "data") / steps,
                                on_host ? lap_of(laps, "communication") / steps : exposed_s,
                                static_cast<double>(static_cast<std::uint32_t>(samples_hash_))};
  std::array<double, 3> maxima = {loss_max_, elapsed_s, static_cast<double>(reserved_bytes)};
  all_reduce_sum(mesh_.host_world(), sums);
  all_reduce_max(mesh_.host_world(), maxima);
  const double loss = sums[0] / ranks;
  // A NaN on any rank must show: MPI's maximum may drop it, so the sum decides.
  return {.loss = loss,
          .loss_max = std::isfinite(loss) ? maxima[0] : loss,
          .step_s = maxima[1] / steps,
          .data_s = sums[1] / ranks,
          .comm_s = sums[2] / ranks,
          .samples_hash = std::fmod(sums[3], 0x1p32),
          .reserved_bytes = maxima[2]};
}

void StepLog::write(std::int64_t step, double lr, std::int64_t reserved_bytes, double exposed_s,
                    Timers& timers, const std::optional<ValidationResult>& validation) {
  const Interval all = bring_together(reserved_bytes, exposed_s, timers);
  if (writer_ != nullptr) write_row(step, lr, all, validation);
  console_.step_line({.step = step,
                      .steps = facts_.steps,
                      .loss = all.loss,
                      .grad_norm = grad_norm_,
                      .lr = lr,
                      .step_time_s = all.step_s,
                      .tok_per_s_per_rank = tokens_per_second_per_rank(all),
                      .mfu_pct = mfu_pct(all),
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
}

void StepLog::write_row(std::int64_t step, double lr, const Interval& all,
                        const std::optional<ValidationResult>& validation) {
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
                             {metric::kTflops, flops_per_second(all) / 1e12},
                             {metric::kMfuPct, mfu_pct(all)},
                             {metric::kStepTime, all.step_s},
                             {metric::kDataTime, all.data_s},
                             {metric::kDataPct, 100 * all.data_s / all.step_s},
                             {metric::kCommTime, all.comm_s},
                             {metric::kCommPct, 100 * all.comm_s / all.step_s},
                             {metric::kMemoryActive, to_gib(active)},
                             {metric::kMemoryActivePct, share(active)},
                             {metric::kMemoryReserved, to_gib(all.reserved_bytes)},
                             {metric::kMemoryReservedPct, share(all.reserved_bytes)}};
  if (validation) {
    row.push_back({metric::kValidationLoss, validation->loss});
    row.push_back({metric::kValidationPerplexity, validation->perplexity()});
    row.push_back({metric::kValidationTime, validation->seconds});
  }
  writer_->row(step, row);
}

double StepLog::tokens_per_second_per_rank(const Interval& all) const {
  return static_cast<double>(shape_.tokens_per_step()) / all.step_s / mesh_.size();
}

double StepLog::flops_per_second(const Interval& all) const {
  return tokens_per_second_per_rank(all) *
         flops_per_token(shape_.model, shape_.micro_batch.seq_len);
}

std::optional<double> StepLog::mfu_pct(const Interval& all) const {
  if (!facts_.peak_flops) return std::nullopt;
  return 100 * flops_per_second(all) / *facts_.peak_flops;
}

}  // namespace koios
