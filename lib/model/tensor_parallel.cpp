#include "model/tensor_parallel.hpp"

namespace koios {

template <class T>
TensorParallelBuffers<T>::TensorParallelBuffers(Arena& arena, std::int64_t ranks,
                                                std::int64_t tokens, std::int64_t dim) {
  if (ranks == 1) return;
  gathered_ND = arena.take<T>("tensor-parallel buffers", tokens, dim);
  partial_ND = arena.take<T>("tensor-parallel buffers", tokens, dim);
  if (const int factor = reduce_scratch_factor(arena.backend()); factor > 0) {
    reduce_scratch = arena.take<T>("reduce-scatter scratch", tokens * dim * factor);
  }
}

template <class T>
TensorParallel<T>::TensorParallel(Communicator& group, const TensorParallelBuffers<T>& buffers,
                                  Stream& compute, ExposedWait& exposed)
    : group_(group), buffers_(buffers), compute_(compute), exposed_(exposed) {
  if (buffers_.reduce_scratch.size() > 0) group_.set_reduce_scratch(any(buffers_.reduce_scratch));
}

template <class T>
Ref<const T, 2> TensorParallel<T>::gather(Ref<const T, 2> mine_SD) {
  if (size() == 1) return mine_SD;
  exposed_.measure([&] { group_.all_gather(any(mine_SD), any(buffers_.gathered_ND), compute_); });
  return buffers_.gathered_ND;
}

template <class T>
Ref<T, 2> TensorParallel<T>::partial(Ref<T, 2> mine_SD) const {
  return size() == 1 ? mine_SD : buffers_.partial_ND;
}

template <class T>
void TensorParallel<T>::reduce_scatter(Ref<T, 2> mine_SD) {
  if (size() == 1) return;
  exposed_.measure([&] {
    group_.reduce_scatter(any(buffers_.partial_ND), any(mine_SD), ReduceOp::sum, compute_);
  });
}

template <class T>
void TensorParallel<T>::all_gather(Ref<T, 2> parts) {
  exposed_.measure([&] { group_.all_gather(any(parts), compute_); });
}

template <class T>
void TensorParallel<T>::all_reduce(Ref<float, 1> values, ReduceOp op) {
  exposed_.measure([&] { group_.all_reduce(any(values), op, compute_); });
}

template struct TensorParallelBuffers<float>;
template struct TensorParallelBuffers<bf16>;
template class TensorParallel<float>;
template class TensorParallel<bf16>;

}  // namespace koios
