#include "data/sample_ranks.hpp"

namespace koios {

SampleRanks::SampleRanks(const MpiEnv& mpi, int dp_coordinate)
    : sharers_(mpi.split(mpi.thread_multiple() ? dp_coordinate : mpi.rank())),
      readers_(mpi.split(sharers_.is_root() ? 0 : 1)),
      reader_(sharers_.all_gather_values(mpi.rank()).front()) {}

}  // namespace koios
