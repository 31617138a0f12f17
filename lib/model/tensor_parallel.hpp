// Tensor parallelism with a sequence-sharded residual stream, as a block sees it: it computes with
// its heads and its part of the feed-forward on all N tokens, and norms and residual additions on
// this rank's S = N / tp rows.
//
//   linear_forward(y_NF, tp.gather(x_SD), w)        all rows of the ranks' x
//   linear_forward(tp.partial(y_SD), x_NF, w)       this rank's summand of y, for all rows ...
//   tp.reduce_scatter(y_SD)                         ... summed over ranks, each taking its rows
//
// One rank alone has all rows: gather and partial hand back their argument, reduce_scatter does
// nothing, and no buffer is taken.
// comm: on the compute stream, in the compute type. ref: Korthikanti et al. 2022, section 4.2.
#pragma once

#include <cstdint>

#include "comm/communicator.hpp"
#include "core/ref.hpp"
#include "runtime/arena.hpp"
#include "shard/exposed_wait.hpp"

namespace koios {

template <class T>
struct TensorParallelBuffers {
  Ref<T, 2> gathered_ND;
  Ref<T, 2> partial_ND;
  Ref<T, 1> reduce_scratch;  // what the communicator needs

  /// tokens: N.
  TensorParallelBuffers(Arena& arena, std::int64_t ranks, std::int64_t tokens, std::int64_t dim);
};

template <class T>
class TensorParallel {
 public:
  TensorParallel(Communicator& group, const TensorParallelBuffers<T>& buffers, Stream& compute,
                 ExposedWait& exposed);

  /// What was gathered before is gone.
  Ref<const T, 2> gather(Ref<const T, 2> mine_SD);
  Ref<T, 2> partial(Ref<T, 2> mine_SD) const;
  void reduce_scatter(Ref<T, 2> mine_SD);
  /// In place, over all ranks of the group.
  void all_gather(Ref<T, 2> parts);
  void all_reduce(Ref<float, 1> values, ReduceOp op);

  int size() const { return group_.size(); }
  int rank() const { return group_.rank(); }

 private:
  Communicator& group_;
  TensorParallelBuffers<T> buffers_;
  Stream& compute_;
  ExposedWait& exposed_;
};

}  // namespace koios
