#include "shard/exposed_wait.hpp"

#include <utility>

namespace koios {

void ExposedWait::start_step(bool is_counted) {
  collect();
  is_counted_ = is_counted;
}

double ExposedWait::take_seconds() {
  collect();
  return std::exchange(seconds_, 0.0);
}

ExposedWait::Wait ExposedWait::begin() {
  if (idle_.empty())
    idle_.push_back({Event(Backend::cuda, true), Event(Backend::cuda, true), true});
  Wait wait = std::move(idle_.back());
  idle_.pop_back();
  wait.begin.record(compute_);
  return wait;
}

void ExposedWait::end(Wait wait) {
  wait.end.record(compute_);
  wait.is_counted = is_counted_;
  pending_.push_back(std::move(wait));
}

void ExposedWait::collect() {
  while (!pending_.empty() && pending_.front().end.is_done()) {
    Wait& oldest = pending_.front();
    if (oldest.is_counted) seconds_ += oldest.end.seconds_since(oldest.begin);
    idle_.push_back(std::move(oldest));
    pending_.pop_front();
  }
}

}  // namespace koios
