#include "train/slow_rank.hpp"

#include <algorithm>

namespace koios {
namespace {

/// Of an even number the smaller one of the two in the middle.
double median(std::vector<double> values) {
  const auto middle = values.begin() + (std::ssize(values) - 1) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

std::optional<SlowRank> slowest_rank(const std::vector<double>& own_s,
                                     const std::vector<int>& stage) {
  std::optional<SlowRank> slowest;
  std::vector<bool> is_done(stage.size(), false);
  for (std::size_t first = 0; first < stage.size(); ++first) {
    if (is_done[first]) continue;
    // Against the median of all others, only the longest of a stage can be the longest of all.
    std::size_t longest = first;
    for (std::size_t r = first; r < stage.size(); ++r) {
      if (stage[r] != stage[first]) continue;
      is_done[r] = true;
      if (own_s[r] > own_s[longest]) longest = r;
    }
    std::vector<double> others;
    for (std::size_t r = first; r < stage.size(); ++r) {
      if (stage[r] == stage[first] && r != longest) others.push_back(own_s[r]);
    }
    if (others.empty()) continue;
    const SlowRank here{static_cast<int>(longest), own_s[longest], median(std::move(others)), 0};
    if (here.others_s <= 0) continue;
    if (!slowest || here.factor() > slowest->factor()) slowest = here;
  }
  return slowest;
}

std::optional<SlowRank> SlowRankWatch::add(std::int64_t steps, const std::vector<double>& own_s,
                                           double step_s) {
  if (is_first_) {
    is_first_ = false;
    return std::nullopt;
  }
  sum_s_.resize(own_s.size());
  for (std::size_t r = 0; r < own_s.size(); ++r) {
    sum_s_[r] += own_s[r] * static_cast<double>(steps);
  }
  steps_ += steps;
  seconds_ += step_s * static_cast<double>(steps);
  if (steps_ < kLeastSteps || seconds_ < kLeastSeconds) return std::nullopt;

  std::optional<SlowRank> slowest = slowest_rank(sum_s_, stage_);
  if (slowest) {
    slowest->own_s /= static_cast<double>(steps_);
    slowest->others_s /= static_cast<double>(steps_);
    slowest->steps = steps_;
  }
  sum_s_.clear();
  steps_ = 0;
  seconds_ = 0;
  silent_ = std::max(0, silent_ - 1);
  if (!slowest || slowest->factor() < kFactor) return std::nullopt;
  if (slowest->rank == told_ && silent_ > 0) return std::nullopt;
  told_ = slowest->rank;
  silent_ = kSilence;
  return slowest;
}

}  // namespace koios
