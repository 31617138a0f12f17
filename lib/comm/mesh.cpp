#include "comm/mesh.hpp"

#include <mpi.h>

#include <array>
#include <utility>

#include "comm/detail/nccl.hpp"
#include "comm/mpi_communicator.hpp"
#include "core/error.hpp"
#include "runtime/check_mpi.hpp"

namespace koios {
namespace {

/// The group of `rank` along the given axes, ordered by rank.
MpiComm split(const MeshShape& shape, int rank, std::initializer_list<Axis> along) {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(MPI_COMM_WORLD, shape.group_of(rank, along), rank, &comm),
            "MPI_Comm_split");
  return MpiComm(comm);
}

}  // namespace

struct Mesh::Groups {
  FlightRecorder recorder;
  Backend backend;
  double init_timeout_s;
  std::unique_ptr<Communicator> host_world, shard_gather, shard_reduce, stage, data, tp;

  Groups(int rank, Backend chosen, const CommOptions& options)
      : recorder(rank, options.trace_buf_size),
        backend(chosen),
        init_timeout_s(options.init_timeout_s) {}

  std::unique_ptr<Communicator> make(const char* name, MpiComm comm) {
    int size = 0;
    check_mpi(MPI_Comm_size(comm.get(), &size), "MPI_Comm_size");
    if (backend == Backend::cuda && size > 1) {
      return nccl::make_communicator(name, std::move(comm), init_timeout_s, &recorder);
    }
    return std::make_unique<MpiCommunicator>(name, std::move(comm), &recorder);
  }

  auto all() const {
    return std::array{host_world.get(), shard_gather.get(), shard_reduce.get(),
                      stage.get(),      data.get(),         tp.get()};
  }
};

Mesh::Mesh(const MpiEnv& mpi, MeshShape shape, Backend backend, const CommOptions& options)
    : shape_(shape),
      rank_(mpi.rank()),
      groups_(std::make_unique<Groups>(mpi.rank(), backend, options)) {
  if (shape.ranks() != mpi.size()) {
    throw UserError(cat("the mesh has ", shape.describe(), ", but ", mpi.size(), " were started"));
  }
  using enum Axis;
  const std::initializer_list<Axis> all = {pp, dp_replicate, dp_shard, cp, tp};
  const std::initializer_list<Axis> shard = {dp_shard, cp};
  groups_->host_world =
      std::make_unique<MpiCommunicator>("host_world", split(shape, rank_, all), &groups_->recorder);
  groups_->shard_gather = groups_->make("shard_gather", split(shape, rank_, shard));
  groups_->shard_reduce = groups_->make("shard_reduce", split(shape, rank_, shard));
  groups_->stage = groups_->make("stage", split(shape, rank_, {dp_replicate, dp_shard, cp, tp}));
  groups_->data = groups_->make("data", split(shape, rank_, {dp_replicate, dp_shard, cp}));
  groups_->tp = groups_->make("tp", split(shape, rank_, {tp}));
}

Mesh::~Mesh() = default;

Communicator& Mesh::shard_gather() const { return *groups_->shard_gather; }
Communicator& Mesh::shard_reduce() const { return *groups_->shard_reduce; }
Communicator& Mesh::stage() const { return *groups_->stage; }
Communicator& Mesh::data() const { return *groups_->data; }
Communicator& Mesh::tp() const { return *groups_->tp; }
Communicator& Mesh::host_world() const { return *groups_->host_world; }
const FlightRecorder& Mesh::recorder() const { return groups_->recorder; }

std::string Mesh::poll() const {
  for (Communicator* communicator : groups_->all()) {
    if (auto error = communicator->poll(); !error.empty()) {
      return cat(communicator->name(), ": ", error);
    }
  }
  return "";
}

}  // namespace koios
