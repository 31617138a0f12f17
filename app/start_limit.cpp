#include "app/start_limit.hpp"

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <stop_token>

#include "config/deck.hpp"
#include "config/run_config.hpp"
#include "config/values.hpp"
#include "core/log.hpp"
#include "runtime/launch_check.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {
namespace {

/// Whether it passed without a stop.
bool wait(const std::stop_token& stop, std::chrono::seconds time) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait_for(lock, stop, time, [] { return false; });
  return !stop.stop_requested();
}

[[noreturn]] void end_start(int rank, std::chrono::seconds limit) {
  log::configure({.rank = rank});  // MPI's start, which tells it, may not have ended
  log::error("no progress for ", limit.count(),
             " s: MPI's start and the reading of the deck have not ended; a rank or its node is "
             "stopped or hangs, or a file system does, or nobody writes a deck that is a pipe; "
             "where that is not too long, give comm/init_timeout_seconds on the command line");
  MpiEnv::abort(ExitCode::standstill);
}

}  // namespace

std::chrono::seconds start_limit(const std::vector<std::string>& overrides) {
  for (const DeckEntry& entry : parse_overrides(overrides).entries) {
    std::int64_t seconds = 0;
    if (entry.section == "comm" && entry.key == "init_timeout_seconds" &&
        parse_value(entry.value, seconds).empty() && seconds > 0) {
      return std::chrono::seconds(seconds);
    }
  }
  return std::chrono::seconds(CommConfig::kLongestStartSeconds);
}

StartLimit::StartLimit(std::chrono::seconds limit)
    : watch_([limit, rank = launched_rank(std::getenv)](const std::stop_token& stop) {
        constexpr std::chrono::seconds kOthersWait{5};
        if (wait(stop, rank == 0 ? limit : limit + kOthersWait)) end_start(rank, limit);
      }) {}

void StartLimit::end() {
  watch_.request_stop();
  watch_.join();
}

}  // namespace koios
