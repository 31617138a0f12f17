#include "data/prefetcher.hpp"

#include <utility>

#include "core/error.hpp"
#include "core/stopwatch.hpp"

namespace koios {

Prefetcher::Prefetcher(Make make, std::size_t depth)
    : make_(std::move(make)), depth_(depth), thread_([this](std::stop_token stop) { run(stop); }) {
  KOIOS_REQUIRE(depth > 0, "a queue of no batches");
}

void Prefetcher::run(const std::stop_token& stop) {
  try {
    while (true) {
      {
        std::unique_lock lock(mutex_);
        if (!has_room_.wait(lock, stop, [this] { return queue_.size() < depth_; })) return;
      }
      std::optional<Batch> batch = make_(stop);
      if (!batch) return;
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(*batch));
      has_batch_.notify_one();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    has_batch_.notify_one();
  }
}

Batch Prefetcher::next() {
  const Stopwatch waiting;
  std::unique_lock lock(mutex_);
  has_batch_.wait(lock, [this] { return !queue_.empty() || error_ != nullptr; });
  wait_seconds_ += waiting.seconds();
  if (queue_.empty()) std::rethrow_exception(error_);
  Batch batch = std::move(queue_.front());
  queue_.pop_front();
  has_room_.notify_one();
  return batch;
}

}  // namespace koios
