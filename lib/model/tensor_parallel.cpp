#include "model/tensor_parallel.hpp"

#include "core/integers.hpp"
#include "kernels/elementwise.hpp"
#include "runtime/copy.hpp"
#include "runtime/region.hpp"

namespace koios {

template <class T>
TensorParallelBuffers<T>::TensorParallelBuffers(Arena& arena, std::int64_t ranks,
                                                std::int64_t tokens, std::int64_t dim,
                                                bool asynchronous, int reduce_scratch_factor)
    : asynchronous(asynchronous) {
  if (ranks == 1) return;
  constexpr std::string_view kLabel = "tensor-parallel buffers";
  gathered_ND = arena.take<T>(kLabel, tokens, dim);
  partial_ND = arena.take<T>(kLabel, tokens, dim);
  if (asynchronous || reduce_scratch_factor > 0) received_ND = arena.take<T>(kLabel, tokens, dim);
}

template <class T>
TensorParallel<T>::TensorParallel(Communicator& group, const TensorParallelBuffers<T>& buffers,
                                  Stream& compute, Stream& exchange, ExposedWait& exposed)
    : group_(group),
      buffers_(buffers),
      compute_(compute),
      exchange_(exchange),
      exposed_(exposed),
      computed_(compute.backend()),
      exchanged_(compute.backend()) {
  for (int distance = 0; distance < size(); ++distance) arrived_.emplace_back(compute.backend());
  if (buffers_.received_ND.size() > 0) group_.set_reduce_scratch(any(buffers_.received_ND));
}

template <class T>
Ref<T, 2> TensorParallel<T>::rows_of(Ref<T, 2> all_ND, int rank) const {
  const std::int64_t rows = div_exact(all_ND.extent[0], size());
  return row_range(all_ND, rank * rows, rows);
}

template <class T>
typename TensorParallel<T>::Gathered TensorParallel<T>::gather(Ref<const T, 2> mine_SD) {
  if (size() == 1) return {*this, mine_SD};
  computed_.record(compute_);
  exchange_.wait(computed_);
  const Region region(exchange_, "gather of rows", passes_over(buffers_.gathered_ND));
  if (is_asynchronous()) {
    exchange_rows(mine_SD);
  } else {
    group_.all_gather(any(mine_SD), any(buffers_.gathered_ND), exchange_);
    arrived_.back().record(exchange_);
  }
  return {*this, mine_SD};
}

template <class T>
void TensorParallel<T>::exchange_rows(Ref<const T, 2> mine_SD) {
  copy(exchange_, any(rows_of(buffers_.gathered_ND, rank())), any(mine_SD));
  for (int distance = 1; distance < size(); ++distance) {
    const int from = neighbour(distance);
    const AnyRef mine = any(rows_of(buffers_.gathered_ND, rank()));
    group_.exchange({.data = mine,
                     .to = neighbour(-distance),
                     .received = any(rows_of(buffers_.gathered_ND, from)),
                     .from = from,
                     .target = mine},
                    exchange_);
    arrived_[static_cast<std::size_t>(distance)].record(exchange_);
  }
}

template <class T>
Ref<const T, 2> TensorParallel<T>::Gathered::all() const {
  if (owner_.size() == 1) return mine_SD_;
  owner_.await_rows(owner_.size() - 1);  // the last to come
  return owner_.buffers_.gathered_ND;
}

template <class T>
Ref<T, 2> TensorParallel<T>::Partial::all() const {
  owner_.in_pieces_ = false;
  return owner_.size() == 1 ? mine_SD_ : owner_.buffers_.partial_ND;
}

template <class T>
void TensorParallel<T>::exchange_partial(int distance) {
  const int to = neighbour(distance);
  const int from = neighbour(-distance);
  computed_.record(compute_);
  exchange_.wait(computed_);
  const Region region(exchange_, "summands of rows", passes_over(rows_of(buffers_.partial_ND, to)));
  group_.exchange({.data = any(rows_of(buffers_.partial_ND, to)),
                   .to = to,
                   .received = any(rows_of(buffers_.received_ND, from)),
                   .from = from,
                   .target = any(rows_of(buffers_.received_ND, rank()))},
                  exchange_);
  exchanged_.record(exchange_);
}

template <class T>
void TensorParallel<T>::sum_partials(Ref<T, 2> mine_SD) {
  exposed_.wait(exchanged_);
  // In the order of the ranks, so that every mesh has one result.
  const auto summand = [&](int from) -> Ref<const T, 2> {
    return rows_of(from == rank() ? buffers_.partial_ND : buffers_.received_ND, from);
  };
  add<T>(compute_, mine_SD, summand(0), summand(1));
  for (int from = 2; from < size(); ++from) add<T>(compute_, mine_SD, mine_SD, summand(from));
}

template <class T>
void TensorParallel<T>::begin_reduce_scatter(Ref<T, 2> mine_SD) {
  if (size() == 1 || in_pieces_) return;
  computed_.record(compute_);
  exchange_.wait(computed_);
  const Region region(exchange_, "sum of rows", passes_over(buffers_.partial_ND));
  group_.reduce_scatter(any(buffers_.partial_ND), any(mine_SD), ReduceOp::sum, exchange_);
  exchanged_.record(exchange_);
  has_begun_ = true;
}

template <class T>
void TensorParallel<T>::reduce_scatter(Ref<T, 2> mine_SD) {
  if (size() == 1) return;
  if (in_pieces_) return sum_partials(mine_SD);
  if (!has_begun_) begin_reduce_scatter(mine_SD);
  has_begun_ = false;
  exposed_.wait(exchanged_);
}

template <class T>
void TensorParallel<T>::all_gather(AnyRef parts) {
  exposed_.run([&] { group_.all_gather(parts, compute_); });
}

template <class T>
void TensorParallel<T>::all_reduce(AnyRef values, ReduceOp op) {
  exposed_.run([&] { group_.all_reduce(values, op, compute_); });
}

template struct TensorParallelBuffers<float>;
template struct TensorParallelBuffers<bf16>;
template class TensorParallel<float>;
template class TensorParallel<bf16>;

}  // namespace koios
