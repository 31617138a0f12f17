#include "shard/exposed_wait.hpp"

namespace koios {

ExposedWait::Pair* ExposedWait::next() {
  if (compute_.backend() == Backend::host) return nullptr;
  if (used_ == pairs_.size()) {
    pairs_.push_back({Event(compute_.backend(), true), Event(compute_.backend(), true)});
  }
  return &pairs_[used_++];
}

void ExposedWait::wait(const Event& event) {
  measure([&] { compute_.wait(event); });
}

double ExposedWait::seconds() const {
  double sum = 0;
  for (std::size_t i = 0; i < used_; ++i) sum += pairs_[i].after.seconds_since(pairs_[i].before);
  return sum;
}

}  // namespace koios
