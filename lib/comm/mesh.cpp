#include "comm/mesh.hpp"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "comm/detail/nccl.hpp"
#include "comm/mpi_communicator.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"
#include "runtime/check_mpi.hpp"

namespace koios {
namespace {

/// Two ranks of the world: the first becomes rank 0. Only they call it.
MpiComm pair_of(int first, int second, int tag) {
  MPI_Group world = MPI_GROUP_NULL;
  MPI_Group pair = MPI_GROUP_NULL;
  MPI_Comm comm = MPI_COMM_NULL;
  const std::array<int, 2> ranks = {first, second};
  check_mpi(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
  check_mpi(MPI_Group_incl(world, 2, ranks.data(), &pair), "MPI_Group_incl");
  check_mpi(MPI_Comm_create_group(MPI_COMM_WORLD, pair, tag, &comm), "MPI_Comm_create_group");
  check_mpi(MPI_Group_free(&pair), "MPI_Group_free");
  check_mpi(MPI_Group_free(&world), "MPI_Group_free");
  return MpiComm(comm);
}

enum class Order { by_rank, reversed };

/// The group of `rank` along the given axes.
MpiComm split(const MeshShape& shape, int rank, std::initializer_list<Axis> along,
              Order order = Order::by_rank) {
  MPI_Comm comm = MPI_COMM_NULL;
  const int key = order == Order::by_rank ? rank : shape.ranks() - rank;
  check_mpi(MPI_Comm_split(MPI_COMM_WORLD, shape.group_of(rank, along), key, &comm),
            "MPI_Comm_split");
  return MpiComm(comm);
}

}  // namespace

struct Mesh::Groups {
  std::unique_ptr<FlightRecorder> own_recorder;
  FlightRecorder& recorder;
  Backend backend;
  double init_timeout_s;
  ShardTransport shard_transport;
  std::vector<std::unique_ptr<Communicator>> made;  // host_world first
  Communicator* host_world = nullptr;
  Communicator* shard_gather = nullptr;
  Communicator* shard_reduce = nullptr;
  Communicator* replicate = nullptr;
  Communicator* world = nullptr;
  Communicator* tp = nullptr;
  Communicator* context = nullptr;
  Communicator* context_reversed = nullptr;
  std::map<std::tuple<Link, int, int>, Communicator*> link;  // and the stages before and after
  std::vector<Communicator*> links;

  Groups(int rank, Backend chosen, const CommOptions& options, FlightRecorder* given)
      : own_recorder(given != nullptr
                         ? nullptr
                         : std::make_unique<FlightRecorder>(rank, options.trace_buf_size)),
        recorder(given != nullptr ? *given : *own_recorder),
        backend(chosen),
        init_timeout_s(options.init_timeout_s),
        shard_transport(options.shard_transport) {}

  Communicator* make_mpi(const char* name, MpiComm comm) {
    return add(std::make_unique<MpiCommunicator>(name, std::move(comm), &recorder));
  }

  /// On the backend; a group of one needs no NCCL.
  Communicator* make(const char* name, MpiComm comm) {
    int size = 0;
    check_mpi(MPI_Comm_size(comm.get(), &size), "MPI_Comm_size");
    if (backend == Backend::host || size == 1) return make_mpi(name, std::move(comm));
    return add(nccl::make_communicator(name, comm.get(), init_timeout_s, &recorder));
  }

  /// Boundary by boundary in one order for all ranks, so that none waits in a circle.
  void make_links(const MeshShape& shape, int rank, std::vector<int> path) {
    const int stage = shape.coordinate(rank, Axis::pp);
    const int stages = shape.size(Axis::pp);
    const int ranks_of_stage = shape.ranks() / stages;  // pp is the slowest axis
    int tag = 0;
    const auto make_link = [&](Link which, int before, int after, const std::string& name) {
      ++tag;
      const bool is_here = before != after && (stage == before || stage == after);
      if (!is_here || link.contains({which, before, after})) return;
      const int first = rank + (before - stage) * ranks_of_stage;
      const int second = rank + (after - stage) * ranks_of_stage;
      links.push_back(make(name.c_str(), pair_of(first, second, tag)));
      link[{which, before, after}] = links.back();
    };
    if (path.empty()) {
      path.resize(static_cast<std::size_t>(stages));
      std::iota(path.begin(), path.end(), 0);
    }
    for (std::size_t visit = 1; visit < path.size(); ++visit) {
      const int before = path[visit - 1];
      const int after = path[visit];
      make_link(Link::activations, before, after,
                cat("activations of stage ", before, " to ", after));
      make_link(Link::gradients, before, after, cat("gradients of stage ", after, " to ", before));
    }
  }

 private:
  Communicator* add(std::unique_ptr<Communicator> communicator) {
    made.push_back(std::move(communicator));
    return made.back().get();
  }
};

Mesh::Mesh(const MpiEnv& mpi, MeshShape shape, Backend backend, const CommOptions& options,
           FlightRecorder* recorder)
    : shape_(shape),
      rank_(mpi.rank()),
      groups_(std::make_unique<Groups>(mpi.rank(), backend, options, recorder)) {
  if (shape.ranks() != mpi.size()) {
    throw UserError(cat("the mesh has ", shape.describe(), ", but ", mpi.size(), " were started"));
  }
  using enum Axis;
  Groups& g = *groups_;
  const auto in_mesh = [&](std::initializer_list<Axis> along) {
    return split(shape, rank_, along);
  };
  const std::initializer_list<Axis> all = {pp, dp_replicate, dp_shard, cp, tp};
  g.host_world = g.make_mpi("host_world", in_mesh(all));
  g.shard_gather = g.make("shard_gather", in_mesh({dp_shard, cp}));
  g.shard_reduce = g.make("shard_reduce", in_mesh({dp_shard, cp}));
  g.replicate = g.make("replicate", in_mesh({dp_replicate}));
  g.tp = g.make("tp", in_mesh({tp}));
  g.context = g.make("context", in_mesh({cp}));
  g.context_reversed = g.make("context_reversed", split(shape, rank_, {cp}, Order::reversed));
  g.make_links(shape, rank_, options.stage_path);
  // A communicator of NCCL holds device memory and takes time to start: groups of the same ranks
  // share one. (All that `world` does comes after the reductions of the step.)
  for (Communicator* part : {g.tp, g.shard_reduce}) {
    if (backend == Backend::cuda && shape.ranks() == part->size()) g.world = part;
  }
  if (g.world == nullptr) g.world = g.make("world", in_mesh(all));
}

Mesh::~Mesh() = default;

Communicator& Mesh::shard_gather() const { return *groups_->shard_gather; }
Communicator& Mesh::shard_reduce() const { return *groups_->shard_reduce; }
Communicator& Mesh::replicate() const { return *groups_->replicate; }
Communicator& Mesh::world() const { return *groups_->world; }
Communicator& Mesh::tp() const { return *groups_->tp; }
Communicator& Mesh::context() const { return *groups_->context; }
Communicator& Mesh::context_reversed() const { return *groups_->context_reversed; }
Communicator& Mesh::link(Link which, int before, int after) const {
  return *groups_->link.at({which, before, after});
}
const std::vector<Communicator*>& Mesh::links() const { return groups_->links; }
Communicator& Mesh::host_world() const { return *groups_->host_world; }
FlightRecorder& Mesh::recorder() const { return groups_->recorder; }

std::string Mesh::share_memory(std::span<std::byte> memory) const {
  const Groups& g = *groups_;
  // The communicators of one line are of the same ranks in the same order.
  const std::vector<std::vector<Communicator*>> groups = {
      {g.shard_gather, g.shard_reduce}, {g.tp}, {g.context}, {g.context_reversed}};
  const auto is_one_rank = [](const auto& group) { return group.front()->size() == 1; };
  if (g.backend == Backend::host || std::ranges::all_of(groups, is_one_rank)) return "";
  if (g.shard_transport == ShardTransport::nccl) return "shards travel by NCCL";
  std::string why_not, by_nccl;
  for (const auto& group : groups) {
    if (is_one_rank(group)) continue;
    const std::string no = nccl::share_memory(group, memory);
    if (no.empty()) continue;
    if (why_not.empty()) why_not = no;
    by_nccl += cat(by_nccl.empty() ? "" : ", ", group.front()->name());
  }
  if (memory.empty()) return "";
  if (why_not.empty()) return "shards travel by copy engines";
  if (g.shard_transport == ShardTransport::copy_engine) {
    throw UserError(
        cat("[comm] shard_transport = copy_engine: the GPUs cannot reach each other's memory: ",
            why_not));
  }
  return cat("by NCCL, not by copy engines, goes what these groups send: ", by_nccl, ": ", why_not);
}

double Mesh::host_seconds() const {
  double seconds = 0;
  for (const auto& communicator : groups_->made) seconds += communicator->host_seconds();
  return seconds - host_world().host_seconds();
}

std::string Mesh::poll() const {
  for (const auto& communicator : groups_->made) {
    if (auto error = communicator->poll(); !error.empty()) {
      return cat(communicator->name(), ": ", error);
    }
  }
  return "";
}

}  // namespace koios
