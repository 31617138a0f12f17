// Says on one rank what any rank has left out of the data (data/on_bad_data = skip), or warns of.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>

#include "data/bad_data.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

class BadDataReport {
 public:
  /// Collective: rank 0 says what was left out or noted since the last call, each piece once.
  void tell(BadData& bad, const MpiEnv& mpi);

 private:
  std::unordered_set<std::string> told_;  // rank 0's
  std::unordered_set<std::string> noted_;
  std::int64_t untold_ = 0;  // pieces too many to be named
};

}  // namespace koios
