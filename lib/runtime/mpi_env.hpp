// MPI's start and end, and what every rank must know before anything else. The only place that
// calls MPI_Init; lib/comm owns the communicators.
#pragma once

#include <cstdint>
#include <string>

#include "core/exit_code.hpp"
#include "runtime/rank_group.hpp"

namespace koios {

/// The name of this process's node: NCCL_HOSTID where that is set, by which NCCL tells hosts apart,
/// else the host's. What goes within a node only (copy engines) and what is said of nodes goes by
/// it.
std::string node_name();

/// The ranks of the whole job are its group.
class MpiEnv : public RankGroup {
 public:
  /// Asks for MPI_THREAD_MULTIPLE. Throws UserError if a launcher started several tasks that MPI
  /// would not find (Slurm without PMIx): each would believe to be alone. Where MPI runs already
  /// (tests), it joins, and leaves the end to whoever began.
  MpiEnv(int& argc, char**& argv);
  MpiEnv(const MpiEnv&) = delete;
  MpiEnv& operator=(const MpiEnv&) = delete;
  /// Ends MPI, except under an exception: others may be waiting then, and main calls abort().
  ~MpiEnv();

  /// Rank among, and number of, the ranks of this node.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  bool thread_multiple() const { return thread_multiple_; }

  /// Numbers that the processes of the node share, or null. `mark` becomes 1 when this one ends the
  /// job, and -n when signal n ends it at once, so that others can tell its end from its death.
  /// `told` becomes 1 once one of them says why the job ends.
  static void mark_end_in(std::int32_t* mark, std::int32_t* told);
  /// Signal n ends this process at once. A handler may call it, and the next.
  static void mark_stop(int signal);
  /// Whether nobody of the node has said yet why the job ends, as far as it can be known: the
  /// caller does.
  static bool is_first_to_tell();
  /// Whatever the calls that follow wait for (a lock of MPI's, a pipe that nobody empties, a file
  /// system), this process ends with this code in 20 s; the launcher then ends the others.
  static void end_soon(ExitCode code);
  /// Ends every rank of the job with this code; in 20 s also where MPI_Abort waits.
  [[noreturn]] static void abort(ExitCode code);

 private:
  int local_rank_ = 0, local_size_ = 1;
  bool thread_multiple_ = false;
  bool finalize_ = false;
};

}  // namespace koios
