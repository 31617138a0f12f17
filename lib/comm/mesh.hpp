// The process mesh of this job: its shape, this rank's place, and one communicator per purpose.
// Built once in main, passed by const reference. Singleton groups cost nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/flight_recorder.hpp"
#include "comm/mesh_shape.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

/// What travels over a boundary between two stages of a pipeline: activations of the one before it,
/// and their gradients back to it.
enum class Link { activations, gradients };

/// Timeouts and bookkeeping of every communicator (deck section [comm]). A timeout of 0 never ends.
struct CommOptions {
  double init_timeout_s = 300;
  double train_timeout_s = 100;
  int trace_buf_size = 20000;
  ShardTransport shard_transport = ShardTransport::automatic;
  /// The stages that a micro-batch visits, one after the other. Empty: each once, in order.
  std::vector<int> stage_path = {};
};

class Mesh {
 public:
  /// Collective over all ranks of the job: splits the world along the axes; on the cuda backend
  /// it also starts NCCL (two communicators for the sharding axis, so that a gather and a
  /// reduce-scatter can be under way together). The recorder is told of every call; null: of its
  /// own.
  Mesh(const MpiEnv& mpi, MeshShape shape, Backend backend, const CommOptions& options,
       FlightRecorder* recorder = nullptr);
  ~Mesh();

  const MeshShape& shape() const { return shape_; }
  int rank() const { return rank_; }
  int size() const { return shape_.ranks(); }

  /// Parameters are sharded over this group (dp_shard x cp): gathers.
  Communicator& shard_gather() const;
  /// The same group: gradient reductions.
  Communicator& shard_reduce() const;
  /// Of each copy of the model the rank that holds the same part of the parameters: sums of
  /// gradient shards.
  Communicator& replicate() const;
  /// All ranks, on the backend: gradient norm.
  Communicator& world() const;
  Communicator& tp() const;
  /// The ranks that share each sequence, and the same in the reverse order: in one order their
  /// first chunks follow one another in the sequence, in the other their second ones.
  Communicator& context() const;
  Communicator& context_reversed() const;
  /// Two ranks at a boundary between stages, for one direction: rank 0 of the pair belongs to the
  /// stage `before` it. This rank's stage is one of the two.
  Communicator& link(Link which, int before, int after) const;
  /// All that this rank has, in the order in which both ends make them.
  const std::vector<Communicator*>& links() const;
  /// All ranks over MPI, host memory only: metrics, agreement on signals, barriers
  /// (comm/host_reduce.hpp).
  Communicator& host_world() const;

  /// Collective: the memory of the arena in which everything lies that shard_gather, shard_reduce,
  /// tp and the context groups are given, of the same plan on every rank. Lets GPUs copy from each
  /// other's where CommOptions say so, and says for the log how shards and keys travel: "" where
  /// none do between GPUs. UserError where copy engines are demanded and cannot. An empty one ends
  /// that, with all streams through; only then may the memory be freed.
  std::string share_memory(std::span<std::byte> memory) const;

  /// Communicator::host_seconds of all but host_world. (On CUDA world may be the same communicator
  /// as shard_reduce or tp: adding up by hand would count it twice.)
  double host_seconds() const;

  /// What this rank does, and what every communicator did last.
  FlightRecorder& recorder() const;
  /// Communicator::poll of all: "" or the first failure, with the communicator's name. For the
  /// watchdog's thread.
  std::string poll() const;

 private:
  struct Groups;
  MeshShape shape_;
  int rank_;
  std::unique_ptr<Groups> groups_;
};

}  // namespace koios
