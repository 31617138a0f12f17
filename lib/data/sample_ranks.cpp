#include "data/sample_ranks.hpp"

#include "core/error.hpp"

namespace koios {

SampleRanks::SampleRanks(const MpiEnv& mpi, int dp_coordinate)
    : sharers_(mpi.split(mpi.thread_multiple() ? dp_coordinate : mpi.rank())),
      readers_(mpi.split(sharers_.rank() == 0 ? 0 : 1)) {
  const std::string reader = sharers_.broadcast(cat(mpi.rank()));
  waiting_ =
      sharers_.rank() == 0 ? "waiting for data" : cat("waiting for the data of rank ", reader);
}

}  // namespace koios
