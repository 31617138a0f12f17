// The rank that the others wait for, while a run goes on: by the time that each rank's steps take
// without its waiting for others.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace koios {

struct SlowRank {
  int rank = 0;
  double own_s = 0;     // a step
  double others_s = 0;  // the median of the other ranks of its stage
  std::int64_t steps = 0;

  double factor() const { return own_s / others_s; }
};

/// Of the ranks that do the same work, the one that takes longest against the others; nothing where
/// each is alone. own_s: of each rank. stage: of each rank, which work it does.
std::optional<SlowRank> slowest_rank(const std::vector<double>& own_s,
                                     const std::vector<int>& stage);

/// When to speak of it: not of a few steps, nor of the same rank all the time.
class SlowRankWatch {
 public:
  static constexpr std::int64_t kLeastSteps = 20;
  static constexpr double kLeastSeconds = 5;
  static constexpr double kFactor = 1.25;  // a rank that takes that much longer is told of
  static constexpr int kSilence = 10;      // that many stretches of steps, after a line

  explicit SlowRankWatch(std::vector<int> stage) : stage_(std::move(stage)) {}

  /// After `steps` more steps, which took own_s each of the ranks and step_s all of them.
  std::optional<SlowRank> add(std::int64_t steps, const std::vector<double>& own_s, double step_s);

 private:
  std::vector<int> stage_;
  std::vector<double> sum_s_;  // by rank
  double seconds_ = 0;
  std::int64_t steps_ = 0;
  bool is_first_ = true;  // what starts takes long, here and there
  int silent_ = 0;
  int told_ = -1;
};

}  // namespace koios
