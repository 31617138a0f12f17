// Communicator over MPI, host memory only. Gathers, reduce-scatters, sends and receives are started
// as non-blocking exchanges between every pair and completed on the stream; the rest blocks.
// (One exchange of Isend/Irecv pairs measures as fast as MPI_Iallgather and MPI_Ialltoall or
// faster, on 2 and 4 ranks of one node: see the table in mpi_communicator.cpp.)
#pragma once

#include <mpi.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/flight_recorder.hpp"
#include "runtime/handle.hpp"

namespace koios {

/// Frees an MPI communicator, except after MPI_Finalize or under an exception.
void close_mpi_comm(MPI_Comm comm) noexcept;
using MpiComm = Handle<MPI_Comm, &close_mpi_comm>;

/// The job's rank of a group's first.
int first_world_rank(MPI_Comm comm);

class MpiCommunicator final : public Communicator {
 public:
  /// recorder may be null; it outlives the communicator.
  MpiCommunicator(std::string name, MpiComm comm, FlightRecorder* recorder);
  ~MpiCommunicator() override;

  using Communicator::all_gather;
  void all_gather(AnyRef mine, AnyRef full, Stream& stream) override;
  void reduce_scatter(AnyRef full, AnyRef mine, ReduceOp op, Stream& stream) override;
  void all_reduce(AnyRef inout, ReduceOp op, Stream& stream) override;
  void broadcast(AnyRef inout, int root, Stream& stream) override;
  void send(AnyRef data, int to, Stream& stream) override;
  void recv(AnyRef data, int from, Stream& stream) override;
  void connect(int /*peer*/, AnyRef /*scratch*/, Stream& /*stream*/) override {}
  void group_begin() override {}
  void group_end() override {}
  void set_reduce_scratch(AnyRef bytes) override;
  double host_seconds() const override { return host_seconds_; }

  /// For libraries that take an MPI communicator (HDF5). Collective calls on it and on this object
  /// must not be under way together.
  MPI_Comm native() const { return comm_.get(); }

 private:
  class Exchange;
  std::shared_ptr<Exchange> start(CommOp op, std::int64_t bytes);
  void defer(const std::shared_ptr<Exchange>& exchange, Stream& stream,
             std::initializer_list<AnyRef> touched);
  std::byte* take_scratch(std::int64_t bytes);
  /// Runs a blocking call, noted and timed.
  void block(CommOp op, std::int64_t bytes, const std::function<void()>& call);

  MpiComm comm_;
  FlightRecorder* recorder_;
  int trace_id_ = -1;
  double host_seconds_ = 0;
  AnyRef scratch_;
  std::int64_t scratch_used_ = 0;
  std::vector<std::shared_ptr<Exchange>> scratch_users_;
  std::vector<float> wide_;  // a bfloat16 all_reduce goes through float
};

}  // namespace koios
