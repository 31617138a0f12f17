// Collectives among one group of ranks, over MPI on the host and NCCL on GPUs.
//
// Every call enqueues on `stream` and returns; buffers must stay as they are until the stream has
// passed. All ranks of the group make the same calls in the same order. A group of one does
// nothing (all_gather, all_reduce, broadcast) or copies (reduce_scatter): callers need no `if`.
// A communicator outlives the work that it put on streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "core/choices.hpp"
#include "core/integers.hpp"
#include "core/ref.hpp"
#include "core/unwinding.hpp"
#include "runtime/stream.hpp"

namespace koios {

enum class ReduceOp { sum, max };

/// What set_reduce_scratch must hand over, per byte of the largest group of reduce_scatters: MPI
/// and copy engines put the other ranks' parts there before they are summed, NCCL needs nothing.
constexpr int reduce_scratch_factor(Backend backend,
                                    ShardTransport transport = ShardTransport::nccl) {
  return backend == Backend::host || transport != ShardTransport::nccl ? 1 : 0;
}

/// Payload bytes this rank must send by any algorithm without multicast, and calls, since the
/// communicator was made. For n ranks and an array of B bytes: (n-1)/n B for all_gather and for
/// reduce_scatter, twice that for all_reduce; send counts what it sends. Broadcasts and groups of
/// one count nothing.
struct Traffic {
  std::int64_t all_gather_bytes = 0;
  std::int64_t reduce_scatter_bytes = 0;
  std::int64_t all_reduce_bytes = 0;
  std::int64_t send_bytes = 0;
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

  /// `full` holds size() equal parts, `mine` is this rank's: anywhere, or at its place in `full`.
  virtual void all_gather(AnyRef mine, AnyRef full, Stream& stream) = 0;
  /// In place.
  void all_gather(AnyRef full, Stream& stream) { all_gather(part(full, rank_), full, stream); }
  /// mine = the op over ranks of their full.part(rank()). `full` holds size() equal parts and is
  /// not changed; `mine` must not overlap it. Over MPI and by copy engines sums are formed in
  /// float32 and in rank order; NCCL chooses its order, and rounds bfloat16 payloads at every hop.
  virtual void reduce_scatter(AnyRef full, AnyRef mine, ReduceOp op, Stream& stream) = 0;
  virtual void all_reduce(AnyRef inout, ReduceOp op, Stream& stream) = 0;
  virtual void broadcast(AnyRef inout, int root, Stream& stream) = 0;
  /// Between one pair of ranks, sends and receives match in the order of their calls.
  virtual void send(AnyRef data, int to, Stream& stream) = 0;
  virtual void recv(AnyRef data, int from, Stream& stream) = 0;

  /// Of an exchange in which every rank takes from the rank at one distance, around the group, what
  /// that one has for it.
  struct Exchange {
    AnyRef data;      // for `to`
    int to;           // rank - distance
    AnyRef received;  // to be filled
    int from;         // rank + distance
    AnyRef target;    // where `data` arrives on `to`: the same place here
  };
  /// Ranks whose memory is laid out alike may write to each other's instead of sending.
  virtual void exchange(const Exchange& e, Stream& stream);

  /// Makes the connection that sends and receives between this rank and `peer` want, which
  /// otherwise the first of them makes, and then that call waits for the other rank's. Both ranks
  /// call it. scratch: two elements or more, overwritten.
  virtual void connect(int peer, AnyRef scratch, Stream& stream) = 0;

  /// Calls between the two are started together, as one operation where the library can.
  virtual void group_begin() = 0;
  virtual void group_end() = 0;

  /// Scratch of the arena, see reduce_scratch_factor. Must outlive the communicator's use.
  virtual void set_reduce_scratch(AnyRef bytes) = 0;

  const Traffic& traffic() const { return traffic_; }
  /// Seconds the calling thread spent inside communication calls and waiting for them. On CUDA
  /// the calls only enqueue: what they cost a step is measured by events.
  virtual double host_seconds() const = 0;

  /// Notes in the flight recorder what has completed meanwhile, and returns the library's own
  /// report of a failure, or "". The watchdog's thread calls it beside the others.
  virtual std::string poll() { return ""; }

 protected:
  Communicator(std::string name, int rank, int size)
      : name_(std::move(name)), rank_(rank), size_(size) {}

  /// Of size() equal parts of `full`, the one of `rank`.
  AnyRef part(AnyRef full, int rank) const {
    const std::int64_t count = div_exact(full.count, size_);
    return {static_cast<std::byte*>(full.data) + rank * count * size_of(full.dtype), count,
            full.dtype};
  }

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
  /// May throw; with another exception in flight the job ends anyway, and the group stays open.
  ~GroupCall() noexcept(false) {
    if (!is_unwinding()) communicator_.group_end();
  }

 private:
  Communicator& communicator_;
};

inline void Communicator::exchange(const Exchange& e, Stream& stream) {
  const GroupCall call(*this);
  send(e.data, e.to, stream);
  recv(e.received, e.from, stream);
}

}  // namespace koios
