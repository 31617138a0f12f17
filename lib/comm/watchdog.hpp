// A thread that ends the job when it stands still: a lost rank leaves the others waiting in a
// collective for ever, and neither MPI nor NCCL says so.
//
//   Watchdog watchdog(mpi, recorder, options, folder);   // comm/init_timeout_seconds run
//   watchdog.start("loading");                           // and again for each part of the start
//   for each step: ...; watchdog.beat();                 // comm/train_timeout_seconds run anew
//
// When the time is up, or a library reports a failure, one rank of each node says where all of the
// node's ranks are, which they write in memory that they share; then one rank of the job says which
// of them is to blame (comm/verdict.hpp). All dump their flight recorders, and the job ends with
// ExitCode::standstill. A rank of the node that dies is told of at once; one that a signal has
// stopped says so itself, and the job ends with ExitCode::stopped. No library is asked on the way,
// for one that holds a lock would silence the watchdog, and no file before the nodes have said what
// they know.
#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "comm/mesh.hpp"
#include "comm/node_board.hpp"
#include "runtime/file.hpp"

namespace koios {

class Watchdog {
 public:
  /// The recorder outlives it. Collective.
  Watchdog(const MpiEnv& mpi, FlightRecorder& recorder, const CommOptions& options,
           std::filesystem::path dump_folder);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  /// A part of the start begins, which the recorder enters: the next call is due within
  /// init_timeout_s, and `more_s` where it may take longer for what it has to read.
  void start(const char* part, double more_s = 0);
  /// The run has moved on: the next beat is due within train_timeout_s.
  void beat() { allow(options_.train_timeout_s); }
  /// What follows may take longer than a step (saving, evaluating): the next beat is due within
  /// `seconds`; 0: whenever.
  void allow(double seconds);
  /// A library says that the run has failed: it is ended at once.
  void report(const std::string& error);

 private:
  using Clock = std::chrono::steady_clock;
  void watch();
  void watch_deaths();
  [[noreturn]] void stand_still(double waited_s);
  [[noreturn]] void library_failed(const std::string& error);
  void rank_died();
  /// Whether this rank speaks for its node: the first of those that have noticed.
  bool is_speaker(const std::vector<RankState>& states) const;
  void dump();
  [[noreturn]] void end();

  int rank_;
  NodeBoard board_;
  FlightRecorder& recorder_;
  CommOptions options_;
  std::filesystem::path dump_folder_;
  std::mutex mutex_;
  std::condition_variable changed_;
  double allowed_s_ = 0;
  Clock::time_point last_beat_;
  std::string error_;  // as reported
  bool stop_ = false;
  FileDescriptor stopped_;  // readable once `deaths_` is to end
  // Last: they use all of the above.
  std::thread deaths_;
  std::thread thread_;
};

/// A thread that asks the communicators' libraries how they are (Communicator::poll) and tells the
/// watchdog. Not the watchdog's own: such a call may wait for as long as a driver's lock is held.
class FailurePoll {
 public:
  FailurePoll(const Mesh& mesh, Watchdog& watchdog);

 private:
  void run(const std::stop_token& stop);

  const Mesh& mesh_;
  Watchdog& watchdog_;
  std::mutex mutex_;
  std::condition_variable_any stopped_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace koios
