#include "comm/watchdog.hpp"

#include <exception>
#include <utility>

#include "core/error.hpp"
#include "core/explain.hpp"
#include "core/log.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {
namespace {

constexpr double kPollSeconds = 0.5;
constexpr double kGraceSeconds = 3;  // the ranks' times do not run out at the same instant

std::chrono::steady_clock::duration duration(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(seconds));
}

}  // namespace

Watchdog::Watchdog(FlightRecorder& recorder, const CommOptions& options,
                   std::filesystem::path dump_folder)
    : recorder_(recorder),
      options_(options),
      dump_folder_(std::move(dump_folder)),
      allowed_s_(options.init_timeout_s),
      last_beat_(Clock::now()),
      thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Watchdog::start(const char* part, double more_s) {
  recorder_.enter(part);
  allow(options_.init_timeout_s > 0 ? options_.init_timeout_s + more_s : 0);
}

void Watchdog::allow(double seconds) {
  const std::lock_guard lock(mutex_);
  allowed_s_ = seconds;
  last_beat_ = Clock::now();
}

void Watchdog::report(const std::string& error) {
  {
    const std::lock_guard lock(mutex_);
    error_ = error;
  }
  changed_.notify_one();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  const auto is_late = [this] {
    return allowed_s_ > 0 && Clock::now() > last_beat_ + duration(allowed_s_);
  };
  while (!stop_) {
    changed_.wait_for(lock, duration(kPollSeconds), [this] { return stop_ || !error_.empty(); });
    if (stop_ || (error_.empty() && !is_late())) continue;
    const std::string error = error_;
    const double waited_s = allowed_s_;
    lock.unlock();
    if (!error.empty()) fail(error, "");
    fail(cat("no progress for ", waited_s, " s"),
         "; where that is not too long, raise comm/init_timeout_seconds (start and first step) or "
         "comm/train_timeout_seconds");
  }
}

void Watchdog::fail(const std::string& reason, const std::string& advice) {
  MpiEnv::end_soon(ExitCode::standstill);
  const std::string call = recorder_.oldest_incomplete();
  // First of all, before a file system is asked for anything.
  log::error(reason, "; this rank is at: ", recorder_.where(),
             "; oldest unfinished communication: ", call.empty() ? "none" : call, advice);
  try {
    if (const auto path = recorder_.dump(dump_folder_); !path.empty()) {
      log::error("its last collectives are in ", path);
    }
  } catch (...) {
    log::error("its last collectives cannot be written: ", explain_current_exception());
  }
  std::this_thread::sleep_for(duration(kGraceSeconds));
  MpiEnv::abort(ExitCode::standstill);
}

FailurePoll::FailurePoll(const Mesh& mesh, Watchdog& watchdog)
    : mesh_(mesh), watchdog_(watchdog), thread_([this](std::stop_token stop) { run(stop); }) {}

void FailurePoll::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (const std::string error = mesh_.poll(); !error.empty()) return watchdog_.report(error);
    std::unique_lock lock(mutex_);
    stopped_.wait_for(lock, stop, duration(kPollSeconds), [] { return false; });
  }
}

}  // namespace koios
