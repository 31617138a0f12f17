#include "config/run_config.hpp"

#include <algorithm>

namespace koios {

bool MetricsConfig::shows(int rank) const {
  return std::any_of(log_ranks.begin(), log_ranks.end(),
                     [&](int shown) { return shown == rank || shown == -1; });
}

}  // namespace koios
