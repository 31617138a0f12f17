#include "model/llama.hpp"

#include "core/integers.hpp"
#include "kernels/rope.hpp"
#include "model/head.hpp"
#include "runtime/copy.hpp"

namespace koios {
namespace {

constexpr int kEmbeddingUnit = 0;
int unit_of_block(int layer) { return layer + 1; }

}  // namespace

template <class T>
Llama<T>::Llama(const LlamaShapes& shapes, const MicroBatchShape& batch, LlamaBuffers<T> buffers,
                MathHandles& math, Communicator& tensor, Stream& compute, Stream& exchange,
                ExposedWait& exposed)
    : shapes_(shapes),
      buffers_(std::move(buffers)),
      compute_(compute),
      context_{shapes_,  attention_shape(shapes_, batch),
               math,     compute_,
               buffers_, {tensor, buffers_.tp, compute_, exchange, exposed}} {
  rope_table(compute_, buffers_.rope_TE, shapes_.rope_theta);
}

template <class T>
void Llama<T>::forward_backward(const DeviceBatch& batch, float loss_scale, int prefetch_blocks,
                                WeightGather<T>& weights, GradientReduce& gradients) {
  const int last_block = narrow<int>(shapes_.n_layers) - 1;
  const int head_unit = unit_of_block(last_block) + 1;

  forward_body(batch, prefetch_blocks, weights);
  {
    const auto head = weights.acquire(head_unit);
    const auto out = gradients.begin(head_unit);
    head_forward_backward<T>(context_, stream_after(last_block), batch.label_N, loss_scale,
                             head.view(), out.view, out.write);
    gradients.reduce(head_unit);
  }
  backward_blocks(prefetch_blocks, weights, gradients);

  const auto out = gradients.begin(kEmbeddingUnit);
  if (out.write == Write::overwrite) fill_zero(compute_, any(out.view.matrix(0)));
  embedding_backward<T>(compute_, out.view.matrix(0), context_.tp.gather(buffers_.dx_SD).all(),
                        batch.sort, first_token());
  gradients.reduce(kEmbeddingUnit);
}

template <class T>
void Llama<T>::forward(const DeviceBatch& batch, int prefetch_blocks, WeightGather<T>& weights) {
  const int last_block = narrow<int>(shapes_.n_layers) - 1;
  forward_body(batch, prefetch_blocks, weights);
  const auto head = weights.acquire(unit_of_block(last_block) + 1);
  head_forward<T>(context_, stream_after(last_block), batch.label_N, head.view());
}

template <class T>
void Llama<T>::forward_body(const DeviceBatch& batch, int prefetch_blocks,
                            WeightGather<T>& weights) {
  context_.document_start_N = batch.document_start_N;
  weights.prefetch(kEmbeddingUnit);
  weights.prefetch(unit_of_block(0));
  {
    const auto table = weights.acquire(kEmbeddingUnit);
    const Ref<T, 2> x_SD = buffers_.block.front().x_SD;
    embedding_forward<T>(compute_, context_.tp.partial(x_SD).all(), batch.token_N,
                         table.view().matrix(0), first_token());
    context_.tp.reduce_scatter(x_SD);
  }
  forward_blocks(prefetch_blocks, weights);
}

template <class T>
void Llama<T>::forward_blocks(int prefetch_blocks, WeightGather<T>& weights) {
  for (int layer = 0; layer < narrow<int>(shapes_.n_layers); ++layer) {
    const auto lease = weights.acquire(unit_of_block(layer));
    for (int ahead = 1; ahead <= prefetch_blocks; ++ahead) {
      weights.prefetch(unit_of_block(layer + ahead));  // the head follows the last block
    }
    if (saved(layer).recompute != Recompute::none) in_scratch_ = layer;
    block_forward<T>(context_, saved(layer),
                     layer == 0 ? Ref<const T, 2>{} : stream_after(layer - 1), lease.view());
  }
}

template <class T>
void Llama<T>::backward_blocks(int prefetch_blocks, WeightGather<T>& weights,
                               GradientReduce& gradients) {
  for (int layer = narrow<int>(shapes_.n_layers) - 1; layer >= 0; --layer) {
    const auto lease = weights.acquire(unit_of_block(layer));
    for (int ahead = 1; ahead <= prefetch_blocks && layer - ahead >= 0; ++ahead) {
      weights.prefetch(unit_of_block(layer - ahead));
    }
    recompute(layer, lease.view());
    const auto out = gradients.begin(unit_of_block(layer));
    block_backward<T>(context_, saved(layer), lease.view(), out.view, out.write);
    gradients.reduce(unit_of_block(layer));
  }
}

template <class T>
void Llama<T>::recompute(int layer, const UnitView<const T>& weights) {
  if (saved(layer).recompute == Recompute::none || in_scratch_ == layer) return;
  block_recompute<T>(context_, saved(layer), weights);
  in_scratch_ = layer;
}

template class Llama<float>;
template class Llama<bf16>;

}  // namespace koios
