// A thread that ends the job when it stands still: a lost rank leaves the others waiting in a
// collective for ever, and neither MPI nor NCCL says so.
//
//   Watchdog watchdog(mesh, options, dump_folder);   // comm/init_timeout_seconds run
//   for each step: ...; watchdog.beat();             // comm/train_timeout_seconds run anew
//
// When the time is up, or NCCL reports a failure, it says on one line which call is the oldest
// unfinished one, dumps the flight recorder, leaves the other ranks a moment to do the same, and
// ends every rank with ExitCode::standstill.
#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>

#include "comm/mesh.hpp"

namespace koios {

class Watchdog {
 public:
  Watchdog(const Mesh& mesh, const CommOptions& options, std::filesystem::path dump_folder);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  /// The run has moved on: the next beat is due within train_timeout_s.
  void beat() { allow(train_timeout_s_); }
  /// What follows may take longer than a step (saving, evaluating): the next beat is due within
  /// `seconds`; 0: whenever.
  void allow(double seconds);

 private:
  using Clock = std::chrono::steady_clock;
  void watch();
  [[noreturn]] void fail(const std::string& reason, const std::string& advice);

  const Mesh& mesh_;
  double train_timeout_s_;
  std::filesystem::path dump_folder_;
  std::mutex mutex_;
  std::condition_variable changed_;
  double allowed_s_ = 0;
  Clock::time_point last_beat_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace koios
