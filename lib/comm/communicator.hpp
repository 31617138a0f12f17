// Collectives among one group of ranks, over MPI on the host and NCCL on GPUs.
//
// Every call enqueues on `stream` and returns; buffers must stay as they are until the stream has
// passed. All ranks of the group make the same calls in the same order. A group of one does
// nothing (all_gather, all_reduce, broadcast) or copies (reduce_scatter): callers need no `if`.
#pragma once

#include <cstdint>
#include <string>

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

enum class ReduceOp { sum, max };

/// Payload bytes this rank sent, and calls, since the communicator was made.
struct Traffic {
  std::int64_t all_gather_bytes = 0;
  std::int64_t reduce_scatter_bytes = 0;
  std::int64_t all_reduce_bytes = 0;
  std::int64_t calls = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  const std::string& name() const { return name_; }
  int rank() const { return rank_; }
  int size() const { return size_; }

  /// In place: `full` holds size() equal parts, this rank's at its own place.
  virtual void all_gather(AnyRef full, Stream& stream) = 0;
  /// mine = the op over ranks of their full.part(rank()). `full` holds size() equal parts and is
  /// not changed; `mine` must not overlap it. Sums are formed in float32, in rank order.
  virtual void reduce_scatter(AnyRef full, AnyRef mine, ReduceOp op, Stream& stream) = 0;
  virtual void all_reduce(AnyRef inout, ReduceOp op, Stream& stream) = 0;
  virtual void broadcast(AnyRef inout, int root, Stream& stream) = 0;
  virtual void send(AnyRef data, int to, Stream& stream) = 0;
  virtual void recv(AnyRef data, int from, Stream& stream) = 0;

  /// Calls between the two are started together, as one operation where the library can.
  virtual void group_begin() = 0;
  virtual void group_end() = 0;

  /// Bytes of scratch the largest group of reduce_scatters between two synchronizations needs,
  /// per byte of `full`: 1 over MPI (it receives the other ranks' parts), 0 over NCCL.
  virtual int reduce_scratch_factor() const = 0;
  /// Hands over that scratch (host memory of the arena). Must outlive the communicator's use.
  virtual void set_reduce_scratch(AnyRef bytes) = 0;

  const Traffic& traffic() const { return traffic_; }
  /// Seconds the calling thread spent inside communication calls and waiting for them. On CUDA
  /// the calls only enqueue: what they cost a step is measured by events.
  virtual double host_seconds() const = 0;

 protected:
  Communicator(std::string name, int rank, int size)
      : name_(std::move(name)), rank_(rank), size_(size) {}

  std::string name_;
  int rank_;
  int size_;
  Traffic traffic_;
};

/// RAII pair of group_begin and group_end.
class GroupCall {
 public:
  explicit GroupCall(Communicator& communicator) : communicator_(communicator) {
    communicator_.group_begin();
  }
  GroupCall(const GroupCall&) = delete;
  GroupCall& operator=(const GroupCall&) = delete;
  ~GroupCall() noexcept(false) { communicator_.group_end(); }

 private:
  Communicator& communicator_;
};

}  // namespace koios
