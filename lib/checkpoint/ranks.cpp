#include "checkpoint/ranks.hpp"

#include <mpi.h>

#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/unwinding.hpp"
#include "runtime/check_mpi.hpp"
#include "runtime/first_problem.hpp"

namespace koios {

struct CheckpointRanks::Comm {
  MPI_Comm comm = MPI_COMM_NULL;

  explicit Comm(MPI_Comm of) { check_mpi(MPI_Comm_dup(of, &comm), "MPI_Comm_dup"); }
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;
  ~Comm() {
    // Freeing is collective: not with a failure on the way, where others may never come here.
    if (!is_unwinding()) MPI_Comm_free(&comm);
  }
};

CheckpointRanks::CheckpointRanks(Who who)
    : comm_(std::make_unique<Comm>(who == Who::world ? MPI_COMM_WORLD : MPI_COMM_SELF)) {
  check_mpi(MPI_Comm_rank(comm_->comm, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm_->comm, &size_), "MPI_Comm_size");
}

CheckpointRanks::CheckpointRanks(CheckpointRanks&&) noexcept = default;
CheckpointRanks& CheckpointRanks::operator=(CheckpointRanks&&) noexcept = default;
CheckpointRanks::~CheckpointRanks() = default;

const void* CheckpointRanks::native() const { return &comm_->comm; }

std::string CheckpointRanks::broadcast(const std::string& text_on_root) const {
  auto length = static_cast<std::int64_t>(text_on_root.size());
  check_mpi(MPI_Bcast(&length, 1, MPI_INT64_T, 0, comm_->comm), "MPI_Bcast");
  std::string text = text_on_root;
  text.resize(static_cast<std::size_t>(length));
  check_mpi(MPI_Bcast(text.data(), narrow<int>(length), MPI_CHAR, 0, comm_->comm), "MPI_Bcast");
  return text;
}

void CheckpointRanks::sum(std::vector<std::uint64_t>& values) const {
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data(), narrow<int>(values.size()), MPI_UINT64_T,
                          MPI_SUM, comm_->comm),
            "MPI_Allreduce");
}

void CheckpointRanks::max(std::vector<std::int64_t>& values) const {
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data(), narrow<int>(values.size()), MPI_INT64_T,
                          MPI_MAX, comm_->comm),
            "MPI_Allreduce");
}

void CheckpointRanks::together(const std::function<void()>& work) const {
  const auto problem = first_problem(comm_->comm, work);
  if (!problem) return;
  throw UserError(problem->rank == 0 ? problem->text
                                     : cat(problem->text, " (rank ", problem->rank, ")"));
}

void CheckpointRanks::on_root(const std::function<void()>& work) const {
  together([&] {
    if (is_root()) work();
  });
}

}  // namespace koios
