// MPI's start and end, and what every rank must know before anything else. The only place that
// calls MPI_Init; lib/comm owns the communicators.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "core/exit_code.hpp"

namespace koios {

/// The name of this process's node: NCCL_HOSTID where that is set, by which NCCL tells hosts apart,
/// else the host's. What goes within a node only (copy engines) and what is said of nodes goes by
/// it.
std::string node_name();

class MpiEnv {
 public:
  /// Asks for MPI_THREAD_MULTIPLE. Throws UserError if a launcher started several tasks that MPI
  /// would not find (Slurm without PMIx): each would believe to be alone. Where MPI runs already
  /// (tests), it joins, and leaves the end to whoever began.
  MpiEnv(int& argc, char**& argv);
  MpiEnv(const MpiEnv&) = delete;
  MpiEnv& operator=(const MpiEnv&) = delete;
  /// Ends MPI, except under an exception: others may be waiting then, and main calls abort().
  ~MpiEnv();

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Rank among, and number of, the ranks of this node.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  const std::string& host() const { return host_; }
  bool thread_multiple() const { return thread_multiple_; }

  /// Rank 0's text on every rank.
  std::string broadcast(const std::string& text_on_root) const;
  /// Every rank's text, in rank order, on every rank.
  std::vector<std::string> all_gather(const std::string& text) const;
  /// Every rank's value, in rank order, on every rank.
  template <class T>
  requires std::is_trivially_copyable_v<T> std::vector<T> all_gather_values(const T& value)
  const {
    std::vector<T> all(static_cast<std::size_t>(size_));
    all_gather_bytes(&value, sizeof value, all.data());
    return all;
  }
  /// Of each record of `size` integers, the largest that any rank has (by the first integer, of
  /// equals by the next), on every rank. All ranks have as many records.
  void all_keep_largest(std::span<std::int64_t> records, std::size_t size) const;
  /// A number that becomes 1 when this process ends the job, so that others can tell its end from
  /// its death; null: none.
  static void mark_end_in(std::int32_t* mark);
  /// Whatever the calls that follow wait for (a lock of MPI's, a pipe that nobody empties, a file
  /// system), this process ends with this code in 20 s; the launcher then ends the others.
  static void end_soon(ExitCode code);
  /// Ends every rank of the job with this code; in 20 s also where MPI_Abort waits.
  [[noreturn]] static void abort(ExitCode code);

 private:
  void all_gather_bytes(const void* mine, std::size_t size, void* all) const;

  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::string host_;
  bool thread_multiple_ = false;
  bool finalize_ = false;
};

}  // namespace koios
