#include "runtime/first_problem.hpp"

#include "core/explain.hpp"
#include "core/integers.hpp"
#include "runtime/check_mpi.hpp"

namespace koios {

std::optional<RankProblem> first_problem(MPI_Comm comm, const std::function<void()>& work) {
  std::string text;
  try {
    work();
  } catch (...) {
    text = explain_current_exception();
    if (text.empty()) text = "failed";
  }
  int rank = 0;
  int ranks = 0;
  check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm, &ranks), "MPI_Comm_size");
  int first = text.empty() ? ranks : rank;
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, comm), "MPI_Allreduce");
  if (first == ranks) return std::nullopt;
  int length = narrow<int>(text.size());
  check_mpi(MPI_Bcast(&length, 1, MPI_INT, first, comm), "MPI_Bcast");
  text.resize(static_cast<std::size_t>(length));
  check_mpi(MPI_Bcast(text.data(), length, MPI_CHAR, first, comm), "MPI_Bcast");
  return RankProblem{first, text};
}

}  // namespace koios
