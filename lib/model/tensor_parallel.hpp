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
// comm: on a stream of their own, in the compute type: beside what is computed between a gather and
// the use of all its rows, or between begin_reduce_scatter and reduce_scatter. Asynchronous: rank
// by rank, while the product works on the rows that are there, or on those still to be sent.
//
// ref: Korthikanti et al. 2022, section 4.2; Wang et al. 2023 (overlap by decomposition).
#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.hpp"
#include "core/ref.hpp"
#include "runtime/arena.hpp"
#include "shard/exposed_wait.hpp"

namespace koios {

template <class T>
struct TensorParallelBuffers {
  Ref<T, 2> gathered_ND;
  Ref<T, 2> partial_ND;
  /// The other ranks' summands of this rank's rows, where they are exchanged in pieces; also what
  /// the communicator needs for a reduce-scatter.
  Ref<T, 2> received_ND;
  bool asynchronous;

  /// tokens: N. reduce_scratch_factor: of the transport.
  TensorParallelBuffers(Arena& arena, std::int64_t ranks, std::int64_t tokens, std::int64_t dim,
                        bool asynchronous, int reduce_scratch_factor);
};

template <class T>
class TensorParallel {
 public:
  /// exchange: the stream of gathers and sums.
  TensorParallel(Communicator& group, const TensorParallelBuffers<T>& buffers, Stream& compute,
                 Stream& exchange, ExposedWait& exposed);

  /// The rows of all ranks, until the next gather.
  class Gathered {
   public:
    /// use(first row, rows) for all rows, in pieces as they arrive.
    template <class Use>
    void each(const Use& use) const;
    Ref<const T, 2> all() const;

   private:
    friend class TensorParallel;
    Gathered(TensorParallel& owner, Ref<const T, 2> mine_SD) : owner_(owner), mine_SD_(mine_SD) {}
    TensorParallel& owner_;
    Ref<const T, 2> mine_SD_;
  };

  /// Where this rank's summands go.
  class Partial {
   public:
    /// compute(first row, rows) for all rows, in pieces that leave when they are enqueued.
    template <class Compute>
    void each(const Compute& compute) const;
    /// All rows, which reduce_scatter sends together.
    Ref<T, 2> all() const;
    /// What was written, to be looked at.
    Ref<const T, 2> summands() const {
      return owner_.size() == 1 ? mine_SD_ : owner_.buffers_.partial_ND;
    }

   private:
    friend class TensorParallel;
    Partial(TensorParallel& owner, Ref<T, 2> mine_SD) : owner_(owner), mine_SD_(mine_SD) {}
    TensorParallel& owner_;
    Ref<T, 2> mine_SD_;
  };

  Gathered gather(Ref<const T, 2> mine_SD);
  Partial partial(Ref<T, 2> mine_SD) { return {*this, mine_SD}; }
  /// Sends what partial(mine_SD) was given; reduce_scatter(mine_SD), which follows, waits for the
  /// sum.
  void begin_reduce_scatter(Ref<T, 2> mine_SD);
  void reduce_scatter(Ref<T, 2> mine_SD);
  /// In place, over all ranks of the group.
  void all_gather(AnyRef parts);
  void all_reduce(AnyRef values, ReduceOp op);

  int size() const { return group_.size(); }
  int rank() const { return group_.rank(); }

 private:
  bool is_asynchronous() const { return size() > 1 && buffers_.asynchronous; }
  /// Rank + distance, around the group.
  int neighbour(int distance) const { return (rank() + distance + size()) % size(); }
  Ref<T, 2> rows_of(Ref<T, 2> all_ND, int rank) const;
  void exchange_rows(Ref<const T, 2> mine_SD);
  /// The compute stream waits for the rows of the rank at this distance.
  void await_rows(int distance) { exposed_.wait(arrived_[static_cast<std::size_t>(distance)]); }
  /// Sends the summands of the rank at this distance, receives some of this rank's.
  void exchange_partial(int distance);
  void sum_partials(Ref<T, 2> mine_SD);

  Communicator& group_;
  TensorParallelBuffers<T> buffers_;
  Stream& compute_;
  Stream& exchange_;
  ExposedWait& exposed_;
  Event computed_;              // what the exchange stream has to wait for
  Event exchanged_;             // all summands are here
  std::vector<Event> arrived_;  // gathered rows, by distance
  bool in_pieces_ = false;      // the summands in partial_ND have been exchanged
  bool has_begun_ = false;      // so has a reduce-scatter
};

template <class T>
template <class Use>
void TensorParallel<T>::Gathered::each(const Use& use) const {
  TensorParallel& tp = owner_;
  const std::int64_t rows = mine_SD_.extent[0];
  if (!tp.is_asynchronous()) return use(std::int64_t{0}, all());
  use(tp.rank() * rows, mine_SD_);
  for (int distance = 1; distance < tp.size(); ++distance) {
    const int from = tp.neighbour(distance);
    tp.await_rows(distance);
    use(from * rows, Ref<const T, 2>(tp.rows_of(tp.buffers_.gathered_ND, from)));
  }
}

template <class T>
template <class Compute>
void TensorParallel<T>::Partial::each(const Compute& compute) const {
  TensorParallel& tp = owner_;
  const std::int64_t rows = mine_SD_.extent[0];
  if (!tp.is_asynchronous()) return compute(std::int64_t{0}, all());
  tp.in_pieces_ = true;
  for (int distance = 1; distance < tp.size(); ++distance) {
    const int to = tp.neighbour(distance);
    compute(to * rows, tp.rows_of(tp.buffers_.partial_ND, to));
    tp.exchange_partial(distance);
  }
  compute(tp.rank() * rows, tp.rows_of(tp.buffers_.partial_ND, tp.rank()));
}

}  // namespace koios
