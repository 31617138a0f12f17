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

void StepLog::write(std::int64_t step, double lr, std::int64_t reserved_bytes, double exposed_s,
                    Timers& timers, const std::optional<ValidationResult>& validation) {
  const auto steps = static_cast<double>(steps_);
  const double elapsed_s = since_last_.lap() - std::exchange(excluded_s_, 0.0);
  const Timers::Totals laps = timers.lap();
  const auto ranks = static_cast<double>(mesh_.size());

  // A NaN on any rank must show: MPI's maximum may drop it, so the sum decides.
  std::array<double, 4> sums = {
      loss_sum_ / steps, lap_of(laps, "data") / steps,
      shape_.backend == Backend::cuda ? exposed_s : lap_of(laps, "communication") / steps,
      static_cast<double>(static_cast<std::uint32_t>(samples_hash_))};
  std::array<double, 3> maxima = {loss_max_, elapsed_s, static_cast<double>(reserved_bytes)};
  all_reduce_sum(mesh_.host_world(), sums);
  all_reduce_max(mesh_.host_world(), maxima);
  const double loss = sums[0] / ranks;
  const double loss_max = std::isfinite(loss) ? maxima[0] : loss;
  const double data_s = sums[1] / ranks;
  const double comm_s = sums[2] / ranks;
  const double step_s = maxima[1] / steps;
  const auto tokens = static_cast<double>(shape_.tokens_per_step());
  const double tok_per_s = tokens / step_s;
  const double flops_per_rank =
      tok_per_s / ranks * flops_per_token(shape_.model, shape_.micro_batch.seq_len);
  std::optional<double> mfu_pct;
  if (facts_.peak_flops) mfu_pct = 100 * flops_per_rank / *facts_.peak_flops;
  const auto share = [&](double bytes) -> std::optional<double> {
    if (facts_.device_bytes == 0) return std::nullopt;
    return 100 * bytes / static_cast<double>(facts_.device_bytes);
  };
  const auto active = static_cast<double>(facts_.arena_bytes);

  if (writer_ != nullptr) {
    std::vector<Metric> row = {{metric::kLossAvg, loss},
                               {metric::kLossMax, loss_max},
                               {metric::kGradNorm, grad_norm_},
                               {metric::kLearningRate, lr},
                               {metric::kTokensSeen, static_cast<double>(tokens_seen(step))},
                               {metric::kSamplesHash, std::fmod(sums[3], 0x1p32)},
                               {metric::kTokensPerSecondPerRank, tok_per_s / ranks},
                               {metric::kTokensPerSecond, tok_per_s},
                               {metric::kTflops, flops_per_rank / 1e12},
                               {metric::kMfuPct, mfu_pct},
                               {metric::kStepTime, step_s},
                               {metric::kDataTime, data_s},
                               {metric::kDataPct, 100 * data_s / step_s},
                               {metric::kCommTime, comm_s},
                               {metric::kCommPct, 100 * comm_s / step_s},
                               {metric::kMemoryActive, to_gib(active)},
                               {metric::kMemoryActivePct, share(active)},
                               {metric::kMemoryReserved, to_gib(maxima[2])},
                               {metric::kMemoryReservedPct, share(maxima[2])}};
    if (validation) {
      row.push_back({metric::kValidationLoss, validation->loss});
      row.push_back({metric::kValidationPerplexity, validation->perplexity()});
      row.push_back({metric::kValidationTime, validation->seconds});
    }
    writer_->row(step, row);
  }
  console_.step_line({.step = step,
                      .steps = facts_.steps,
                      .loss = loss,
                      .grad_norm = grad_norm_,
                      .lr = lr,
                      .step_time_s = step_s,
                      .tok_per_s_per_rank = tok_per_s / ranks,
                      .mfu_pct = mfu_pct,
                      .peak_gib = to_gib(maxima[2])});
  if (validation) {
    console_.validation_line({.step = step,
                              .steps = facts_.steps,
                              .loss = validation->loss,
                              .perplexity = validation->perplexity(),
                              .sequences = validation->sequences,
                              .seconds = validation->seconds});
  }
  losses_.push_back({step, loss, loss_max});
  steps_ = 0;
  loss_sum_ = 0;
  samples_hash_ = 0;
}

}  // namespace koios
