#include "pipeline/schedule.hpp"

#include <algorithm>

namespace koios {

std::vector<Pass> one_after_another(int micro_batches) {
  std::vector<Pass> schedule;
  for (int micro = 0; micro < micro_batches; ++micro) {
    schedule.push_back({Pass::Kind::forward, micro});
    schedule.push_back({Pass::Kind::backward, micro});
  }
  return schedule;
}

std::vector<Pass> evaluation() { return {{Pass::Kind::evaluate, 0}}; }

int micro_batches_in_flight(const std::vector<Pass>& schedule) {
  int now = 0;
  int most = 1;
  for (const Pass& pass : schedule) {
    if (pass.kind == Pass::Kind::forward) most = std::max(most, ++now);
    if (pass.kind == Pass::Kind::backward) --now;
  }
  return most;
}

}  // namespace koios
