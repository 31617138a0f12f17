// All-gathers and reduce-scatters among the GPUs of one node by their copy engines: every rank
// copies its parts into the others' memory, so the multiprocessors stay with the computation that
// this hides behind. (NCCL's kernels take some of them, and GEMMs beside those are 20 to 40%
// slower. Copies out of the others' memory are slower, too, and small ones wait for large ones:
// docs/performance_tries.md.)
//
// One run is everything of one group of calls, on one stream of every rank:
//
//   say "ready", wait for all | copy to the others | say "done", wait for all | sum
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/detail/peer_memory.hpp"
#include "core/ref.hpp"
#include "runtime/handle.hpp"

namespace koios {

void close_cuda_event(cudaEvent_t event) noexcept;
using CudaEvent = Handle<cudaEvent_t, &close_cuda_event>;

class PeerCopies {
 public:
  /// channel: of those that use one PeerMemory at the same time, from 0.
  PeerCopies(std::shared_ptr<const PeerMemory> memory, int channel);

  /// Of the next run. Arguments as in Communicator; sums are formed in float32 and in rank order.
  /// What the others copy to, `full`, is at the same place on every rank, and so is the scratch.
  void add_all_gather(AnyRef mine, AnyRef full);
  void add_reduce_scatter(AnyRef full, AnyRef mine);
  void add_exchange(const Communicator::Exchange& e);
  bool has_work() const { return !copies_.empty(); }
  /// Runs follow one another, also where they are on several streams.
  void run(cudaStream_t stream);

  /// Where the others' parts of all reduce_scatters of one run arrive.
  void set_reduce_scratch(AnyRef bytes) { scratch_ = bytes; }

 private:
  struct Copy {
    void* to;
    const void* from;
    std::int64_t bytes;
  };
  struct Sum {
    AnyRef mine;
    std::vector<const void*> parts;  // by rank
  };

  AnyRef part(AnyRef full, int rank) const;
  std::byte* take_scratch(std::int64_t bytes);
  static void enqueue(const std::vector<Copy>& copies, cudaStream_t stream);

  std::shared_ptr<const PeerMemory> memory_;
  PeerMemory::Word ready_;
  PeerMemory::Word done_;
  CudaEvent ended_;  // the last run
  cudaStream_t last_stream_ = nullptr;
  AnyRef scratch_ = {};
  std::int64_t scratch_used_ = 0;
  std::vector<Copy> own_;     // this rank's parts, to their places here
  std::vector<Copy> copies_;  // to the others
  std::vector<Sum> sums_;
};

}  // namespace koios
