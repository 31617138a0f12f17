// A thread that makes batches ahead of their use. What it throws, next() throws in the thread that
// asks, after the batches made before.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "data/batch.hpp"

namespace koios {

class Prefetcher {
 public:
  /// Makes the next batch; looks at the token now and then, and when asked to stop returns none.
  using Make = std::function<std::optional<Batch>(const std::stop_token&)>;

  /// Keeps up to `depth` batches. The thread starts at once.
  Prefetcher(Make make, std::size_t depth);
  /// Stops the thread, in no more time than `make` takes to notice.
  ~Prefetcher() = default;
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  Batch next();
  /// Seconds that next() has waited, in total.
  double wait_seconds() const { return wait_seconds_; }

 private:
  void run(const std::stop_token& stop);

  Make make_;
  std::size_t depth_;
  double wait_seconds_ = 0;
  std::mutex mutex_;
  std::condition_variable_any has_room_;
  std::condition_variable has_batch_;
  std::deque<Batch> queue_;
  std::exception_ptr error_;
  std::jthread thread_;  // last, so that it ends first
};

}  // namespace koios
