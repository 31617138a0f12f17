// Communicator over NCCL, device memory only. Private to comm/: it names NCCL's types.
#pragma once

#include <cuda_runtime_api.h>
#include <mpi.h>
#include <nccl.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <source_location>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/detail/peer_copies.hpp"
#include "comm/flight_recorder.hpp"
#include "comm/mpi_communicator.hpp"
#include "runtime/handle.hpp"

namespace koios {

void close_nccl_comm(ncclComm_t comm) noexcept;
using NcclComm = Handle<ncclComm_t, &close_nccl_comm>;

class NcclCommunicator final : public Communicator {
 public:
  /// group: the same ranks. device: the one that `comm` was made on. recorder may be null; it
  /// outlives the communicator.
  NcclCommunicator(std::string name, MpiComm group, NcclComm comm, int device,
                   FlightRecorder* recorder);
  ~NcclCommunicator() override;

  using Communicator::all_gather;
  void all_gather(AnyRef mine, AnyRef full, Stream& stream) override;
  void reduce_scatter(AnyRef full, AnyRef mine, ReduceOp op, Stream& stream) override;
  void all_reduce(AnyRef inout, ReduceOp op, Stream& stream) override;
  void broadcast(AnyRef inout, int root, Stream& stream) override;
  void send(AnyRef data, int to, Stream& stream) override;
  void recv(AnyRef data, int from, Stream& stream) override;
  void exchange(const Exchange& e, Stream& stream) override;
  void connect(int peer, AnyRef scratch, Stream& stream) override;
  void group_begin() override;
  void group_end() override;
  void set_reduce_scratch(AnyRef bytes) override;
  double host_seconds() const override { return host_seconds_; }
  std::string poll() override;

  /// From now on all_gather, reduce_scatter of sums and exchange copy from the others' memory; null
  /// ends it.
  void copy_from_peers(std::shared_ptr<const PeerMemory> memory, int channel);
  MPI_Comm group() const { return group_.get(); }

 private:
  /// Calls that an event stands for, by their numbers in the recorder.
  struct Outstanding {
    CudaEvent event;
    std::int64_t first;
    std::int64_t last;
  };

  template <class Call>
  void issue(CommOp op, std::int64_t bytes, const char* function, Stream& stream, Call call);
  void check(ncclResult_t result, const char* call,
             std::source_location where = std::source_location::current()) const;
  /// Notes that the calls issued since the last time are on `stream`.
  void track(cudaStream_t stream);
  void retire();
  /// add(), in this group of calls or at once.
  template <class Add>
  ncclResult_t by_peer_copies(cudaStream_t stream, Add add);

  MpiComm group_;
  NcclComm comm_;
  int device_;
  FlightRecorder* recorder_;
  int trace_id_ = -1;
  double host_seconds_ = 0;
  std::unique_ptr<PeerCopies> peer_copies_;  // null: NCCL does it all
  AnyRef reduce_scratch_ = {};
  bool in_group_ = false;
  cudaStream_t group_stream_ = nullptr;
  std::int64_t first_untracked_ = 0;  // 0: none
  std::int64_t last_untracked_ = 0;
  std::mutex mutex_;  // of the two below: the watchdog polls from its own thread
  std::deque<Outstanding> outstanding_;
  std::vector<CudaEvent> idle_events_;
};

}  // namespace koios
