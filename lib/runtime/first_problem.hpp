// What went wrong on some rank, heard by all: before a collective that would wait for that rank.
#pragma once

#include <mpi.h>

#include <functional>
#include <optional>
#include <string>

namespace koios {

struct RankProblem {
  int rank = 0;  // in the communicator
  std::string text;
};

/// Collective: runs `work` on every rank and returns, on all of them, what the lowest rank that
/// failed has thrown; nothing where none has.
std::optional<RankProblem> first_problem(MPI_Comm comm, const std::function<void()>& work);

}  // namespace koios
