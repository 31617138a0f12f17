// Gradients leave block by block: the GEMMs of block l write its full float32 gradients, a grouped
// reduce-scatter on the reduce stream sums them over the ranks into this rank's shard while block
// l-1 computes.
//
//   auto g = gradients.begin(l);                       // waits until the buffer is free
//   block.backward(..., g, Write::overwrite, ...);     // or adds to what is there
//   gradients.reduce(l, Write::overwrite);
//   ...
//   gradients.all_reduce(l);                           // with replicas, after the last micro-batch
//   ...
//   gradients.finish();                                // the compute stream waits for all of them
//
// What overwrites and what accumulates, and when units are reduced, is the step's list of actions
// (pipeline/actions.hpp).
// Micro-batches after the first reduce into a scratch shard that is added to the gradient shard;
// or the full gradients are kept, later micro-batches accumulate there, and the last one reduces.
// Reduced in bfloat16, half the bytes travel: each rank rounds its sum of a micro-batch once before
// they do, and adds what arrives to its float32 shard.
// On one rank the shard is the full gradient: the GEMMs write (or accumulate) there directly.
//
// Copies of the model (replicas) add up their shards once a step, on a stream of its own: between
// nodes an all-reduce takes longer than a reduce-scatter within one, and neither uses the other's
// links. The sums, and so the updates, have the same bits in every copy.
#pragma once

#include <optional>
#include <vector>

#include "comm/communicator.hpp"
#include "kernels/gemm.hpp"
#include "runtime/arena.hpp"
#include "runtime/stream.hpp"
#include "shard/exposed_wait.hpp"
#include "shard/layout.hpp"
#include "shard/slots.hpp"
#include "shard/unit_view.hpp"

namespace koios {

struct ReduceOptions {
  DType dtype = DType::float32;  // in which gradients travel and are summed over ranks
  bool every_micro_batch = true;
  int micro_batches = 1;
  int replicas = 1;        // copies of the model
  int scratch_factor = 0;  // comm's reduce_scratch_factor(backend)
};

struct GradientBuffers {
  Ref<float, 1> shard;                    // this rank's gradients, flat
  std::optional<UnitSlots<float>> slots;  // full gradients on their way out
  Ref<float, 1> micro_batch;              // one unit's shard of a later micro-batch
  Ref<bf16, 1> narrow_full;               // one unit's full gradients as they travel in bfloat16
  Ref<bf16, 1> narrow_shard;              // and what arrives
  Ref<bf16, 1> narrow_replica;            // one unit's shard as it travels between replicas
  Ref<float, 1> reduce_scratch;           // what the communicator needs

  GradientBuffers(Arena& arena, const ShardLayout& layout, const ReduceOptions& options);
};

struct ReduceStreams {
  Stream& compute;
  Stream& reduce;     // to the shard
  Stream& replicate;  // of shards over replicas
};

class GradientReduce {
 public:
  GradientReduce(const ShardLayout& layout, GradientBuffers buffers, const ReduceOptions& options,
                 Communicator& group, Communicator& replicas, const ReduceStreams& streams,
                 ExposedWait& exposed);

  /// Where the unit's full gradients go.
  UnitView<float> begin(int unit);
  /// The shard becomes the sum over ranks of the full gradients, or that is added to it.
  void reduce(int unit, Write write);
  /// The unit's shard becomes the sum over the replicas.
  void all_reduce(int unit);
  void finish();

  Ref<float, 1> shard() const { return buffers_.shard; }
  /// Where full gradients lie; null: they are the shard.
  const UnitSlots<float>* full() const { return buffers_.slots ? &*buffers_.slots : nullptr; }

 private:
  template <class T>
  void reduce_scatter(const UnitLayout& unit, Ref<T, 1> full, Ref<T, 1> shard);
  /// The unit's shard = or += arrived, parameter by parameter: the alignment gaps of a scratch
  /// buffer hold what other units left there.
  template <class T>
  void take(const UnitLayout& unit, Ref<T, 1> arrived, Write write);

  const ShardLayout& layout_;
  GradientBuffers buffers_;
  ReduceOptions options_;
  Communicator& group_;
  Communicator& replicas_;
  Stream& compute_;
  Stream& stream_;
  Stream& replicate_;
  std::vector<Event> reduced_;  // per slot
  Event written_;
  Event shard_written_;
  ExposedWait& exposed_;
  Event finished_;
};

}  // namespace koios
