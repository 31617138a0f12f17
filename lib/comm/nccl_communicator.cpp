#include "comm/detail/nccl_communicator.hpp"

#include <mpi.h>

#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <thread>
#include <utility>

#include "comm/detail/nccl.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/stopwatch.hpp"
#include "core/unwinding.hpp"
#include "runtime/check_cuda.hpp"
#include "runtime/check_mpi.hpp"

namespace koios {
namespace {

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return ncclFloat32;
    case DType::bfloat16:
      return ncclBfloat16;
    case DType::float8_e4m3:
    case DType::float8_e5m2:
      return ncclUint8;  // moved, never added up: see reduced_type
    case DType::float64:
      return ncclFloat64;
    case DType::int32:
      return ncclInt32;
    case DType::int64:
      return ncclInt64;
    default:
      KOIOS_REQUIRE(false, "NCCL is not given ", to_string(dtype));
  }
}

/// The type of a sum or a maximum.
ncclDataType_t reduced_type(DType dtype) {
  KOIOS_REQUIRE(size_of(dtype) > 1, "a sum or maximum of ", to_string(dtype));
  return nccl_type(dtype);
}

ncclRedOp_t nccl_op(ReduceOp op) { return op == ReduceOp::sum ? ncclSum : ncclMax; }

cudaStream_t native(const Stream& stream) {
  KOIOS_REQUIRE(stream.backend() == Backend::cuda, "NCCL on host stream ", stream.label());
  return static_cast<cudaStream_t>(stream.native());
}

std::size_t elements(std::int64_t count) { return static_cast<std::size_t>(count); }

void check_nccl(ncclResult_t result, const char* call, ncclComm_t comm,
                std::source_location where = std::source_location::current()) {
  if (result == ncclSuccess) return;
  throw LibraryError("NCCL", call,
                     cat(ncclGetErrorString(result), " (", ncclGetLastError(comm), ")"), where);
}

/// Starts this rank's part. ncclCommInitRank waits for all ranks, so it runs on a thread that is
/// given up after timeout_s. (NCCL's own non-blocking mode would do, but then every later group
/// call costs a thread of its own.)
NcclComm start(const std::string& name, const ncclUniqueId& id, int rank, int ranks, int device,
               double timeout_s) {
  auto promise = std::make_shared<std::promise<ncclComm_t>>();
  auto started = promise->get_future();
  std::thread([promise, id, rank, ranks, device] {
    try {
      check_cuda(cudaSetDevice(device), "cudaSetDevice");
      ncclComm_t comm = nullptr;
      check_nccl(ncclCommInitRank(&comm, ranks, id, rank), "ncclCommInitRank", nullptr);
      promise->set_value(comm);
    } catch (...) {
      promise->set_exception(std::current_exception());
    }
  }).detach();
  if (timeout_s > 0 &&
      started.wait_for(std::chrono::duration<double>(timeout_s)) == std::future_status::timeout) {
    throw UserError(cat("NCCL group ", name, ": the ", ranks, " ranks did not find each other in ",
                        timeout_s,
                        " s (comm/init_timeout_seconds). NCCL_DEBUG=INFO shows why; "
                        "often NCCL_SOCKET_IFNAME must name the network between the nodes"));
  }
  return NcclComm(started.get());
}

}  // namespace

void close_nccl_comm(ncclComm_t comm) noexcept {
  // Destroying waits for the other ranks, which may be gone when an exception ends the job.
  if (!is_unwinding()) ncclCommDestroy(comm);
}

namespace nccl {

std::unique_ptr<Communicator> make_communicator(std::string name, MPI_Comm bootstrap,
                                                double timeout_s, FlightRecorder* recorder) {
  int rank = 0;
  int ranks = 0;
  check_mpi(MPI_Comm_rank(bootstrap, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(bootstrap, &ranks), "MPI_Comm_size");
  ncclUniqueId id{};
  if (rank == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId", nullptr);
  check_mpi(MPI_Bcast(&id, sizeof(id), MPI_BYTE, 0, bootstrap), "MPI_Bcast");
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  NcclComm comm = start(name, id, rank, ranks, device, timeout_s);
  MPI_Comm group = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(bootstrap, &group), "MPI_Comm_dup");
  return std::make_unique<NcclCommunicator>(std::move(name), MpiComm(group), std::move(comm),
                                            device, recorder);
}

std::string share_memory(std::span<Communicator* const> users, std::span<std::byte> memory) {
  std::string why_not = "none is shared";
  std::shared_ptr<const PeerMemory> peers;
  if (!memory.empty()) {
    peers = PeerMemory::connect(dynamic_cast<NcclCommunicator&>(*users.front()).group(), memory,
                                why_not);
  }
  int channel = 0;
  for (Communicator* user : users) {
    dynamic_cast<NcclCommunicator&>(*user).copy_from_peers(peers, channel++);
  }
  return why_not;
}

}  // namespace nccl

NcclCommunicator::NcclCommunicator(std::string name, MpiComm group, NcclComm comm, int device,
                                   FlightRecorder* recorder)
    : Communicator(std::move(name), 0, 1),
      group_(std::move(group)),
      comm_(std::move(comm)),
      device_(device),
      recorder_(recorder) {
  check_mpi(MPI_Comm_rank(group_.get(), &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(group_.get(), &size_), "MPI_Comm_size");
  if (recorder_ != nullptr)
    trace_id_ = recorder_->add_communicator(name_, rank_, size_, first_world_rank(group_.get()));
}

NcclCommunicator::~NcclCommunicator() = default;

void NcclCommunicator::check(ncclResult_t result, const char* call,
                             std::source_location where) const {
  check_nccl(result, call, comm_.get(), where);
}

template <class Call>
void NcclCommunicator::issue(CommOp op, std::int64_t bytes, const char* function, Stream& stream,
                             Call call) {
  const Stopwatch watch;
  const cudaStream_t cuda_stream = native(stream);
  ++traffic_.calls;
  if (recorder_ != nullptr) {
    last_untracked_ = recorder_->issued(trace_id_, op, bytes);
    if (first_untracked_ == 0) first_untracked_ = last_untracked_;
  }
  check(call(cuda_stream), function);
  if (in_group_) {
    group_stream_ = cuda_stream;
  } else {
    track(cuda_stream);
  }
  host_seconds_ += watch.seconds();
}

void NcclCommunicator::copy_from_peers(std::shared_ptr<const PeerMemory> memory, int channel) {
  peer_copies_.reset();
  if (!memory) return;
  peer_copies_ = std::make_unique<PeerCopies>(std::move(memory), channel);
  peer_copies_->set_reduce_scratch(reduce_scratch_);
}

void NcclCommunicator::set_reduce_scratch(AnyRef bytes) {
  reduce_scratch_ = bytes;
  if (peer_copies_) peer_copies_->set_reduce_scratch(bytes);
}

template <class Add>
ncclResult_t NcclCommunicator::by_peer_copies(cudaStream_t stream, Add add) {
  KOIOS_REQUIRE(!in_group_ || group_stream_ == nullptr || group_stream_ == stream, name_,
                ": a group on two streams");
  add();
  if (!in_group_) peer_copies_->run(stream);
  return ncclSuccess;
}

void NcclCommunicator::all_gather(AnyRef mine, AnyRef full, Stream& stream) {
  KOIOS_REQUIRE(mine.dtype == full.dtype && div_exact(full.count, size_) == mine.count,
                "all_gather of ", mine.count, " each of ", size_, " ranks into ", full.count);
  if (mine.count == 0) return;
  issue(CommOp::all_gather, full.bytes(), "ncclAllGather", stream, [&](cudaStream_t s) {
    if (peer_copies_) return by_peer_copies(s, [&] { peer_copies_->add_all_gather(mine, full); });
    return ncclAllGather(mine.data, full.data, elements(mine.count), nccl_type(full.dtype),
                         comm_.get(), s);
  });
  traffic_.all_gather_bytes += (size_ - 1) * mine.bytes();
}

void NcclCommunicator::reduce_scatter(AnyRef full, AnyRef mine, ReduceOp op, Stream& stream) {
  KOIOS_REQUIRE(mine.dtype == full.dtype && div_exact(full.count, size_) == mine.count,
                "reduce_scatter of ", full.count, " over ", size_, " ranks into ", mine.count);
  if (mine.count == 0) return;
  issue(CommOp::reduce_scatter, full.bytes(), "ncclReduceScatter", stream, [&](cudaStream_t s) {
    if (peer_copies_ && op == ReduceOp::sum) {
      return by_peer_copies(s, [&] { peer_copies_->add_reduce_scatter(full, mine); });
    }
    return ncclReduceScatter(full.data, mine.data, elements(mine.count), reduced_type(full.dtype),
                             nccl_op(op), comm_.get(), s);
  });
  traffic_.reduce_scatter_bytes += (size_ - 1) * mine.bytes();
}

void NcclCommunicator::all_reduce(AnyRef inout, ReduceOp op, Stream& stream) {
  if (inout.count == 0) return;
  issue(CommOp::all_reduce, inout.bytes(), "ncclAllReduce", stream, [&](cudaStream_t s) {
    return ncclAllReduce(inout.data, inout.data, elements(inout.count), reduced_type(inout.dtype),
                         nccl_op(op), comm_.get(), s);
  });
  traffic_.all_reduce_bytes += 2 * (size_ - 1) * inout.bytes() / size_;
}

void NcclCommunicator::broadcast(AnyRef inout, int root, Stream& stream) {
  if (inout.count == 0) return;
  issue(CommOp::broadcast, inout.bytes(), "ncclBroadcast", stream, [&](cudaStream_t s) {
    return ncclBroadcast(inout.data, inout.data, elements(inout.count), nccl_type(inout.dtype),
                         root, comm_.get(), s);
  });
}

void NcclCommunicator::send(AnyRef data, int to, Stream& stream) {
  if (data.count == 0) return;
  issue(CommOp::send, data.bytes(), "ncclSend", stream, [&](cudaStream_t s) {
    return ncclSend(data.data, elements(data.count), nccl_type(data.dtype), to, comm_.get(), s);
  });
  traffic_.send_bytes += data.bytes();
}

void NcclCommunicator::recv(AnyRef data, int from, Stream& stream) {
  if (data.count == 0) return;
  issue(CommOp::recv, data.bytes(), "ncclRecv", stream, [&](cudaStream_t s) {
    return ncclRecv(data.data, elements(data.count), nccl_type(data.dtype), from, comm_.get(), s);
  });
}

void NcclCommunicator::exchange(const Exchange& e, Stream& stream) {
  if (!peer_copies_) return Communicator::exchange(e, stream);
  issue(CommOp::exchange, e.received.bytes(), "exchange", stream,
        [&](cudaStream_t s) { return by_peer_copies(s, [&] { peer_copies_->add_exchange(e); }); });
  traffic_.send_bytes += e.data.bytes();
}

void NcclCommunicator::connect(int peer, AnyRef scratch, Stream& stream) {
  KOIOS_REQUIRE(scratch.count >= 2, name_, ": scratch of ", scratch.count);
  auto* received = static_cast<std::byte*>(scratch.data) + size_of(scratch.dtype);
  const ncclDataType_t type = nccl_type(scratch.dtype);
  check(ncclGroupStart(), "ncclGroupStart");
  check(ncclSend(scratch.data, 1, type, peer, comm_.get(), native(stream)), "ncclSend");
  check(ncclRecv(received, 1, type, peer, comm_.get(), native(stream)), "ncclRecv");
  check(ncclGroupEnd(), "ncclGroupEnd");
}

void NcclCommunicator::group_begin() {
  KOIOS_REQUIRE(!in_group_, name_, ": a group within a group");
  check(ncclGroupStart(), "ncclGroupStart");
  in_group_ = true;
  group_stream_ = nullptr;
}

void NcclCommunicator::group_end() {
  const Stopwatch watch;
  in_group_ = false;
  check(ncclGroupEnd(), "ncclGroupEnd");
  if (peer_copies_ && peer_copies_->has_work()) peer_copies_->run(group_stream_);
  // NCCL makes one kernel of the group and lets every stream in it wait for that kernel.
  if (group_stream_ != nullptr) track(group_stream_);
  host_seconds_ += watch.seconds();
}

void NcclCommunicator::track(cudaStream_t stream) {
  if (first_untracked_ == 0) return;
  const std::lock_guard lock(mutex_);
  retire();
  CudaEvent event;
  if (idle_events_.empty()) {
    cudaEvent_t made = nullptr;
    check_cuda(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    event = CudaEvent(made);
  } else {
    event = std::move(idle_events_.back());
    idle_events_.pop_back();
  }
  check_cuda(cudaEventRecord(event.get(), stream), "cudaEventRecord");
  outstanding_.push_back({std::move(event), std::exchange(first_untracked_, 0), last_untracked_});
}

void NcclCommunicator::retire() {
  while (!outstanding_.empty()) {
    Outstanding& oldest = outstanding_.front();
    const cudaError_t state = cudaEventQuery(oldest.event.get());
    if (state == cudaErrorNotReady) {
      cudaGetLastError();
      return;
    }
    check_cuda(state, "cudaEventQuery");
    for (auto number = oldest.first; number <= oldest.last; ++number) recorder_->completed(number);
    idle_events_.push_back(std::move(oldest.event));
    outstanding_.pop_front();
  }
}

std::string NcclCommunicator::poll() {
  try {
    check_cuda(cudaSetDevice(device_), "cudaSetDevice");  // a thread begins on device 0
    {
      const std::lock_guard lock(mutex_);
      retire();
    }
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comm_.get(), &state), "ncclCommGetAsyncError");
    if (state != ncclInProgress) check(state, "asynchronous error");
    return "";
  } catch (const LibraryError& error) {
    return error.what();
  }
}

}  // namespace koios
