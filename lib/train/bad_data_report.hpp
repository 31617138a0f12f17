// Says on one rank what any rank has left out of the data (data/on_bad_data = skip).
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>

#include "data/bad_data.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

class BadDataReport {
 public:
  /// Collective: rank 0 warns of what was left out since the last call, each piece once. Where bad
  /// data ends the run there is nothing to say, and nothing is sent.
  void tell(BadData& bad, const MpiEnv& mpi);

 private:
  std::unordered_set<std::string> told_;  // rank 0's
  std::int64_t untold_ = 0;               // pieces too many to be named
};

}  // namespace koios
