// Which ranks read the data: of those that take the same samples (tensor-parallel ranks, stages of
// a pipeline, ranks that share sequences) one reads and tokenizes, and sends them to the others.
#pragma once

#include "runtime/mpi_env.hpp"

namespace koios {

class SampleRanks {
 public:
  /// Collective. dp_coordinate: the ranks that give the same number take the same samples. Where
  /// MPI does not let two threads communicate, each reads for itself.
  SampleRanks(const MpiEnv& mpi, int dp_coordinate);

  /// The ranks that take this one's samples; the first of them reads.
  const RankGroup& sharers() const { return sharers_; }
  /// Of a rank that reads: all that do.
  const RankGroup& readers() const { return readers_; }
  /// That first one, by its rank in the job.
  int reader() const { return reader_; }

 private:
  RankGroup sharers_;
  RankGroup readers_;
  int reader_;
};

}  // namespace koios
