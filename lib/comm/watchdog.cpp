#include "comm/watchdog.hpp"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <utility>

#include "core/error.hpp"
#include "core/explain.hpp"
#include "core/log.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {
namespace {

constexpr double kPollSeconds = 0.5;
constexpr double kGraceSeconds = 3;     // the ranks' times do not run out at the same instant
constexpr unsigned kAbortSeconds = 20;  // MPI_Abort itself may wait for a lock

std::chrono::steady_clock::duration duration(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(seconds));
}

}  // namespace

Watchdog::Watchdog(const Mesh& mesh, const CommOptions& options, std::filesystem::path dump_folder)
    : mesh_(mesh),
      train_timeout_s_(options.train_timeout_s),
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

void Watchdog::allow(double seconds) {
  const std::lock_guard lock(mutex_);
  allowed_s_ = seconds;
  last_beat_ = Clock::now();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, duration(kPollSeconds), [this] { return stop_; })) {
    lock.unlock();
    const std::string error = mesh_.poll();
    lock.lock();
    const bool late = allowed_s_ > 0 && Clock::now() > last_beat_ + duration(allowed_s_);
    if (stop_ || (error.empty() && !late)) continue;
    const double waited_s = allowed_s_;
    lock.unlock();
    if (!error.empty()) fail(error, "");
    fail(cat("no progress for ", waited_s, " s"),
         "; where that is not too long, raise comm/init_timeout_seconds (first step) or "
         "comm/train_timeout_seconds");
  }
}

void Watchdog::fail(const std::string& reason, const std::string& advice) {
  const std::string call = mesh_.recorder().oldest_incomplete();
  std::string line =
      cat(reason, "; oldest unfinished communication: ", call.empty() ? "none" : call);
  try {
    if (const auto path = mesh_.recorder().dump(dump_folder_); !path.empty()) {
      line += cat("; trace in ", path);
    }
  } catch (...) {
    line += cat("; no trace: ", explain_current_exception());
  }
  log::error(line, advice);
  std::signal(SIGALRM, SIG_DFL);
  alarm(kAbortSeconds);
  std::this_thread::sleep_for(duration(kGraceSeconds));
  MpiEnv::abort(ExitCode::standstill);
}

}  // namespace koios
