#include "train/step_decision.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <utility>

#include "comm/host_reduce.hpp"
#include "core/log.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

/// What the end takes beside the save: the last tables, MPI's end, the script's next command.
constexpr double kEndSeconds = 3;
/// The next one, and two that the host has given to the device and not waited for.
constexpr double kStepsAhead = 3;

StopReason reason_of(int signal) {
  switch (signal) {
    case 0:
      return StopReason::none;
    case SIGINT:
      return StopReason::sigint;
    case SIGUSR2:
      return StopReason::sigusr2;
    default:
      return StopReason::sigterm;
  }
}

bool is_there(const fs::path& path) {
  std::error_code unknown;  // a file system that does not answer asks for nothing
  return fs::exists(path, unknown);
}

}  // namespace

StepDecision decide(const RunConfig& config, std::int64_t step, const StepRequests& requests) {
  const CheckpointConfig& checkpoint = config.checkpoint;
  const bool is_multiple =
      checkpoint.interval_type == IntervalType::steps && step % checkpoint.interval == 0;
  const bool is_end = step == config.training.steps;
  const bool is_stop = !is_end && requests.stop != StopReason::none;
  StepDecision d;
  d.last = is_end || is_stop;
  d.explain = requests.explain;
  d.save = checkpoint.is_on() &&
           (d.last || (step == 1 && checkpoint.save_first_step) || is_multiple || requests.save);
  // Somebody who wants the end does not wait for it.
  d.validate =
      config.validation.is_on() && !is_stop && (is_end || step % config.validation.interval == 0);
  // A step that is saved is logged too: what is saved is known to be finite, and a resumed run
  // writes the same lines as one that was never stopped.
  d.log = d.save || d.validate || d.last || step == 1 || step % config.metrics.log_freq == 0;
  if (is_stop) {
    d.stop = requests.stop;
    d.exit_code = checkpoint.is_on() ? ExitCode::stopped : ExitCode::failure;
  }
  return d;
}

StepDecision StepDecider::after(std::int64_t step, double save_s, bool saw_nonfinite) {
  turn_.done(step);
  std::array<double, 4> asked = {
      wants_save() ? 1.0 : 0.0, static_cast<double>(signals_.saves_of_launcher()),
      static_cast<double>(wants_stop(save_s)), saw_nonfinite ? 1.0 : 0.0};
  all_reduce_max(mesh_.host_world(), asked);
  const int launcher_saves = static_cast<int>(asked[1]);
  const bool is_asked = std::exchange(launcher_saves_, launcher_saves) < launcher_saves;
  agreed_.save = agreed_.save || asked[0] > 0 || is_asked;
  agreed_.stop = std::max(agreed_.stop, static_cast<StopReason>(asked[2]));
  agreed_.explain = asked[3] > 0;
  if (agreed_.save && !config_.checkpoint.is_on()) {
    if (mesh_.rank() == 0) {
      log::warning("a save was asked for, but [checkpoint] folder is empty: nothing is saved");
    }
    agreed_.save = false;
  }
  return decide(config_, step, agreed_);
}

void StepDecider::saved() {
  agreed_.save = false;
  signals_.take_save();  // asked for while it was saved
  since_save_.lap();
}

bool StepDecider::wants_save() {
  const CheckpointConfig& checkpoint = config_.checkpoint;
  bool wants = signals_.take_save();
  if (mesh_.rank() == 0) {  // one view of the folder and one clock decide for all
    std::error_code unknown;
    wants = fs::remove(config_.job.dump_folder / "SAVE", unknown) || wants;
  }
  const bool is_due = mesh_.rank() == 0 && checkpoint.interval_type == IntervalType::seconds &&
                      since_save_.seconds() >= static_cast<double>(checkpoint.interval);
  return wants || (checkpoint.is_on() && is_due);
}

StopReason StepDecider::wants_stop(double save_s) {
  const StopReason by_signal = reason_of(signals_.stop());
  if (mesh_.rank() != 0 || by_signal != StopReason::none) return by_signal;
  if (is_there(config_.job.dump_folder / "STOP")) return StopReason::stop_file;
  return is_time_over(save_s) ? StopReason::walltime : StopReason::none;
}

bool StepDecider::is_time_over(double save_s) const {
  // A save that takes a tenth longer than the slowest so far still fits.
  return time_.left_s() < 1.1 * save_s + kStepsAhead * turn_.slowest_s() + kEndSeconds;
}

std::string StepDecider::describe(StopReason reason) const {
  switch (reason) {
    case StopReason::none:
      return "";
    case StopReason::walltime:
      return time_.source();
    case StopReason::stop_file:
      return cat("the file ", (config_.job.dump_folder / "STOP").string());
    case StopReason::sigint:
      return signal_name(SIGINT);
    case StopReason::sigusr2:
      return signal_name(SIGUSR2);
    case StopReason::sigterm:
      return signal_name(SIGTERM);
  }
  KOIOS_REQUIRE(false, "unknown reason");
}

void StepDecider::Turn::done(std::int64_t step) {
  if (step == step_) return;  // asked again
  step_ = step;
  const double turn_s = watch_.lap() - std::exchange(excluded_s_, 0.0);
  // The first takes what later ones do not: it counts until there is another.
  slowest_s_ = turns_ == 1 ? turn_s : std::max(slowest_s_, turn_s);
  ++turns_;
}

}  // namespace koios
