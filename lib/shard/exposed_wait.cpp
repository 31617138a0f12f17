#include "shard/exposed_wait.hpp"

namespace koios {

void ExposedWait::wait(const Event& event) {
  if (compute_.backend() == Backend::host) {
    compute_.wait(event);
    return;
  }
  if (used_ == pairs_.size()) {
    pairs_.push_back({Event(compute_.backend(), true), Event(compute_.backend(), true)});
  }
  Pair& pair = pairs_[used_++];
  pair.before.record(compute_);
  compute_.wait(event);
  pair.after.record(compute_);
}

double ExposedWait::seconds() const {
  double sum = 0;
  for (std::size_t i = 0; i < used_; ++i) sum += pairs_[i].after.seconds_since(pairs_[i].before);
  return sum;
}

}  // namespace koios
