#include "comm/watchdog.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <utility>

#include "comm/verdict.hpp"
#include "core/error.hpp"
#include "core/explain.hpp"
#include "core/log.hpp"
#include "core/stopwatch.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {
namespace {

constexpr double kPollSeconds = 0.5;
constexpr double kGraceSeconds = 3;  // the ranks' times do not run out at the same instant
constexpr double kNodesSeconds = 5;  // for the other nodes' files to come
constexpr std::size_t kMostLines = 16;

std::chrono::steady_clock::duration duration(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(seconds));
}

void sleep_s(double seconds) { std::this_thread::sleep_for(duration(seconds)); }

/// Readable when the process ends; empty where the system has none.
FileDescriptor open_process(std::int32_t pid) {
  return FileDescriptor(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

}  // namespace

Watchdog::Watchdog(const MpiEnv& mpi, FlightRecorder& recorder, const CommOptions& options,
                   std::filesystem::path dump_folder)
    : rank_(mpi.rank()),
      board_(mpi),
      recorder_(recorder),
      options_(options),
      dump_folder_(std::move(dump_folder)),
      allowed_s_(options.init_timeout_s),
      last_beat_(Clock::now()),
      stopped_(eventfd(0, EFD_CLOEXEC)) {
  recorder.publish_in(board_.mine());
  MpiEnv::mark_end_in(&board_.mine().ending, &board_.is_told());
  deaths_ = std::thread([this] { watch_deaths(); });
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
  eventfd_write(stopped_.get(), 1);
  deaths_.join();
  MpiEnv::mark_end_in(nullptr, nullptr);
  std::atomic_ref<std::int32_t>(board_.mine().ending).store(1);
  recorder_.withdraw();
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
    if (!error.empty()) library_failed(error);
    stand_still(waited_s);
  }
}

bool Watchdog::is_speaker(const std::vector<RankState>& states) const {
  return std::none_of(states.begin(), states.end(), [this](const RankState& state) {
    return state.alarm_s > 0 && state.rank < rank_;
  });
}

void Watchdog::dump() {
  try {
    recorder_.dump(dump_folder_);
    if (board_.nodes() > 1) board_.write(dump_folder_);
  } catch (...) {
    log::error("comm_trace cannot be written: ", explain_current_exception());
  }
}

void Watchdog::end() {
  sleep_s(1);  // for the others' dumps
  MpiEnv::abort(ExitCode::standstill);
}

void Watchdog::stand_still(double waited_s) {
  MpiEnv::end_soon(ExitCode::standstill);
  recorder_.raise_alarm();
  sleep_s(kGraceSeconds);
  std::vector<RankState> states = board_.read();
  const bool speaks = is_speaker(states);
  if (speaks) {
    log::error("no progress for ", waited_s,
               " s; where that is not too long, raise comm/init_timeout_seconds (start and first "
               "step) or comm/train_timeout_seconds; traces in ",
               (dump_folder_ / "comm_trace").string());
    for (std::size_t i = 0; i < std::min(states.size(), kMostLines); ++i) {
      log::error(describe(states[i], unix_seconds()));
    }
  }
  if (board_.nodes() > 1) {
    dump();
    sleep_s(kNodesSeconds);
    states = board_.read_nodes(dump_folder_);
  }
  if (is_speaker(states)) {
    log::error("verdict: ", verdict(states, board_.ranks(), unix_seconds()));
    if (board_.nodes() == 1) dump();
  } else {
    if (board_.nodes() == 1) dump();
    sleep_s(2);  // its end is everybody's: the one that speaks comes first
  }
  end();
}

void Watchdog::library_failed(const std::string& error) {
  MpiEnv::end_soon(ExitCode::standstill);
  recorder_.raise_alarm();
  log::error("verdict: ", error, "; ", describe(board_.mine(), unix_seconds()));
  dump();
  end();
}

void Watchdog::rank_died() {
  sleep_s(0.05);  // where all are killed together there is nothing to tell
  const std::vector<RankState> states = board_.read();
  if (std::any_of(states.begin(), states.end(),
                  [](const RankState& state) { return state.stop_signal() != 0; })) {
    MpiEnv::end_soon(ExitCode::stopped);
    sleep_s(kGraceSeconds);  // it has said why, and most launchers end the others
    MpiEnv::abort(ExitCode::stopped);
  }
  const bool is_told = std::any_of(states.begin(), states.end(),
                                   [](const RankState& state) { return state.ending != 0; });
  if (is_told) return;  // somebody ends the job and says why
  MpiEnv::end_soon(ExitCode::failure);
  recorder_.raise_alarm();
  sleep_s(0.05);  // of those who noticed, one speaks
  if (is_speaker(board_.read())) {
    log::error("verdict: ", verdict(states, board_.ranks(), unix_seconds()));
  }
  dump();
  sleep_s(kGraceSeconds);  // the launcher ends the job, with the signal as the reason
  MpiEnv::abort(ExitCode::failure);
}

void Watchdog::watch_deaths() {
  std::vector<FileDescriptor> processes;
  std::vector<pollfd> watched{{stopped_.get(), POLLIN, 0}};
  for (const RankState& state : board_.read()) {
    if (state.rank == rank_) continue;
    processes.push_back(open_process(state.pid));
    if (processes.back()) watched.push_back({processes.back().get(), POLLIN, 0});
  }
  while (true) {
    if (::poll(watched.data(), watched.size(), -1) < 0) continue;  // a signal came
    if (watched.front().revents != 0) return;
    for (pollfd& process : watched) {
      if (process.revents != 0) process.fd = -1;  // told once
    }
    rank_died();
  }
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
