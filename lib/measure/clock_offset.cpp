#include "measure/clock_offset.hpp"

#include <mpi.h>

#include <limits>

#include "core/stopwatch.hpp"
#include "runtime/check_mpi.hpp"

namespace koios {
namespace {

constexpr int kMessages = 20;
constexpr int kTag = 7;

/// Finds out about `rank`'s clock, and tells it.
void ask(int rank) {
  double offset_s = 0;
  double fastest_s = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kMessages; ++i) {
    double theirs_s = 0;
    const double asked_s = unix_seconds();
    check_mpi(MPI_Send(&asked_s, 1, MPI_DOUBLE, rank, kTag, MPI_COMM_WORLD), "MPI_Send");
    check_mpi(MPI_Recv(&theirs_s, 1, MPI_DOUBLE, rank, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE),
              "MPI_Recv");
    const double answered_s = unix_seconds();
    if (answered_s - asked_s >= fastest_s) continue;
    fastest_s = answered_s - asked_s;
    offset_s = theirs_s - (asked_s + answered_s) / 2;
  }
  check_mpi(MPI_Send(&offset_s, 1, MPI_DOUBLE, rank, kTag, MPI_COMM_WORLD), "MPI_Send");
}

}  // namespace

double clock_offset_s() {
  int rank = 0;
  int ranks = 0;
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &ranks), "MPI_Comm_size");
  if (rank == 0) {
    for (int other = 1; other < ranks; ++other) ask(other);
    return 0;
  }
  double received = 0;
  for (int i = 0; i < kMessages; ++i) {
    check_mpi(MPI_Recv(&received, 1, MPI_DOUBLE, 0, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE),
              "MPI_Recv");
    const double mine_s = unix_seconds();
    check_mpi(MPI_Send(&mine_s, 1, MPI_DOUBLE, 0, kTag, MPI_COMM_WORLD), "MPI_Send");
  }
  check_mpi(MPI_Recv(&received, 1, MPI_DOUBLE, 0, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE),
            "MPI_Recv");
  return received;
}

}  // namespace koios
