// Gradients leave block by block: the GEMMs of block l write its full float32 gradients, a grouped
// reduce-scatter on the reduce stream sums them over the ranks into this rank's shard while block
// l-1 computes.
//
//   auto g = gradients.begin(l);                      // waits until the buffer is free
//   block.backward(..., g.view, g.write, ...);        // overwrite, or add to an earlier
//   micro-batch gradients.reduce(l);
//   ...
//   gradients.finish();                               // the compute stream waits for all of them
//
// Micro-batches after the first reduce into a scratch shard that is added to the gradient shard.
// On one rank the shard is the full gradient: the GEMMs write (or accumulate) there directly.
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

struct GradientBuffers {
  Ref<float, 1> shard;                    // this rank's gradients, flat
  std::optional<UnitSlots<float>> slots;  // full gradients on their way out
  Ref<float, 1> micro_batch;              // one unit's shard of a later micro-batch
  Ref<float, 1> reduce_scratch;           // what the communicator needs

  /// reduce_scratch_factor: Communicator::reduce_scratch_factor of the shard group.
  GradientBuffers(Arena& arena, const ShardLayout& layout, int micro_batches,
                  int reduce_scratch_factor);
};

class GradientReduce {
 public:
  GradientReduce(const ShardLayout& layout, GradientBuffers buffers, Communicator& group,
                 Stream& compute, Stream& reduce, ExposedWait& exposed);

  struct Output {
    UnitView<float> view;
    Write write;
  };

  /// The first micro-batch of a step replaces the gradients, later ones add to them.
  void start_micro_batch(int micro_batch) { first_ = micro_batch == 0; }
  Output begin(int unit);
  void reduce(int unit);
  void finish();

  Ref<float, 1> shard() const { return buffers_.shard; }

 private:
  const ShardLayout& layout_;
  GradientBuffers buffers_;
  Communicator& group_;
  Stream& compute_;
  Stream& stream_;
  std::vector<Event> reduced_;  // per slot
  Event written_;
  ExposedWait& exposed_;
  Event all_reduced_;
  bool first_ = true;
};

}  // namespace koios
