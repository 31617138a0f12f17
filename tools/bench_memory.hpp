// What bench_step works on: the buffers of one block and of embedding and head, filled as a run
// starts, and this rank's share of the optimizer's arrays.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "core/integers.hpp"
#include "core/random.hpp"
#include "data/embedding_index.hpp"
#include "kernels/detail/host_parallel.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/embedding.hpp"
#include "kernels/reduce.hpp"
#include "kernels/rope.hpp"
#include "model/activations.hpp"
#include "runtime/copy.hpp"
#include "shard/parameters.hpp"
#include "shard/unit_view.hpp"

namespace koios {

/// One block's activations, and weights and gradients of embedding, one block and head.
template <class T>
struct BenchBuffers {
  LlamaBuffers<T> model;
  Ref<T, 1> weights;
  Ref<float, 1> gradients;
  Ref<T, 2> previous_SD;
  Ref<T, 1> gathered;  // this rank's rows of a unit
  Ref<float, 1> master, exp_avg, exp_avg_sq, gradient_shard;
  Ref<float, 1> partials, norm_squared, scale;
  Ref<std::int32_t, 1> token_N, label_N, position_N, begin_S1, token_S;
  Ref<std::byte, 1> workspace;

  BenchBuffers(Arena& a, const LlamaShapes& m, const MicroBatchShape& batch,
               const ShardLayout& full, std::int64_t gathered_size, std::int64_t shard_size)
      : model(a, m, batch, {}),
        weights(a.take<T>("weights", full.shard_size())),
        gradients(a.take<float>("gradients", full.shard_size())),
        previous_SD(a.take<T>("weights", batch.tokens(), m.dim)),
        gathered(a.take<T>("weights", gathered_size)),
        master(a.take<float>("optimizer", shard_size)),
        exp_avg(a.take<float>("optimizer", shard_size)),
        exp_avg_sq(a.take<float>("optimizer", shard_size)),
        gradient_shard(a.take<float>("optimizer", shard_size)),
        partials(a.take<float>("optimizer", kSumPartials)),
        norm_squared(a.take<float>("optimizer", 1)),
        scale(a.take<float>("optimizer", 1)),
        token_N(a.take<std::int32_t>("batch", batch.tokens())),
        label_N(a.take<std::int32_t>("batch", batch.tokens())),
        position_N(a.take<std::int32_t>("batch", batch.tokens())),
        begin_S1(a.take<std::int32_t>("batch", batch.tokens() + 1)),
        token_S(a.take<std::int32_t>("batch", batch.tokens())),
        workspace(a.take<std::byte>("workspace", MathHandles::gemm_workspace_bytes(a.backend()))) {}
};

inline LlamaShapes one_block(LlamaShapes m) {
  m.n_layers = 1;
  return m;
}

/// Positions of the units of a model of one block.
enum BenchUnit { kEmbedding, kBlock, kHead };

template <class T>
class BenchMemory {
 public:
  /// The optimizer's arrays are shortened where free_bytes do not hold them.
  BenchMemory(Stream& s, const LlamaShapes& model, const MicroBatchShape& batch, int ranks,
              std::int64_t free_bytes)
      : model_(model),
        batch_(batch),
        full_(llama_units(one_block(model)), 1, 0),
        shared_(llama_units(one_block(model)), ranks, 0) {
    const std::int64_t shard = ceil_div(parameter_count(model), ranks);
    Arena planner = Arena::planner(s.backend());
    make_buffers(planner, 0);
    constexpr std::int64_t kBytes = 4 * sizeof(float);  // master, two moments, gradient
    const std::int64_t room = (free_bytes - planner.taken().total_bytes) / 10 * 9 / kBytes;
    const std::int64_t held = std::max(std::min(shard, room), shared_.shard_size());
    optimizer_share_ = std::min(1.0, static_cast<double>(held) / static_cast<double>(shard));
    planner = Arena::planner(s.backend());
    make_buffers(planner, held);
    arena_ = std::make_unique<Arena>(s.backend(), planner.taken());
    buffers_ = std::make_unique<BenchBuffers<T>>(make_buffers(*arena_, held));
    fill_buffers(s);
  }

  BenchBuffers<T>& operator*() const { return *buffers_; }
  BenchBuffers<T>* operator->() const { return buffers_.get(); }

  UnitView<const T> weights(int unit) const {
    return {full_.unit(unit), buffers_->weights.data + full_.unit(unit).shard_offset};
  }
  UnitView<float> gradients(int unit) const {
    return {full_.unit(unit), buffers_->gradients.data + full_.unit(unit).shard_offset};
  }
  /// A plain copy, on the host with all threads as the kernels run; it spoils the gradients.
  std::int64_t copy_size() const {
    return std::min(buffers_->gradients.size(), buffers_->gradient_shard.size());
  }
  void copy(Stream& s) const {
    const Ref<float, 1> dst = slice(buffers_->gradients, 0, copy_size());
    const Ref<float, 1> src = slice(buffers_->gradient_shard, 0, copy_size());
    if (s.backend() == Backend::cuda) return koios::copy(s, any(dst), any(src));
    constexpr std::int64_t kPiece = 1 << 16;
    detail::host_parallel_for("copy", ceil_div(dst.size(), kPiece), [&](std::int64_t k) {
      const std::int64_t count = std::min(kPiece, dst.size() - k * kPiece);
      std::memcpy(dst.data + k * kPiece, src.data + k * kPiece, count * sizeof(float));
    });
  }

  const EmbeddingSort& sort() const { return sort_; }
  const UnitLayout& shared_unit(int unit) const { return shared_.unit(unit); }
  /// The part of this rank's share that is held.
  double optimizer_share() const { return optimizer_share_; }
  std::int64_t bytes() const { return arena_->taken().total_bytes; }

 private:
  BenchBuffers<T> make_buffers(Arena& arena, std::int64_t optimizer_size) const {
    std::int64_t unit = 0;
    for (const UnitLayout& u : shared_.units()) unit = std::max(unit, u.shard_size);
    return BenchBuffers<T>(arena, one_block(model_), batch_, full_, unit, optimizer_size);
  }

  void upload(Stream& s, Ref<std::int32_t, 1> to, std::vector<std::int32_t>& from) {
    koios::copy(s, any(slice(to, 0, std::ssize(from))),
                any(make_ref(from.data(), std::ssize(from))));
    s.synchronize();
  }

  /// Weights as a run starts with them; tokens with shares like 1 / (k + 1), as in text.
  void fill_buffers(Stream& s) {
    BenchBuffers<T>& b = *buffers_;
    initialize_parameters(s, full_, b.gradients, 1);
    cast<T, float>(s, b.weights, b.gradients);
    rope_table(s, b.model.rope_TE, model_.rope_theta);
    fill_normal(s, b.master, 1, 0, 0, 0.02, 6);
    fill_normal(s, b.gradient_shard, 1, 1, 0, 1e-4, 6);
    fill(s, b.scale, 1);
    std::vector<std::int32_t> token, label;
    for (std::int64_t n = 0; n <= batch_.tokens(); ++n) {
      const Philox4 bits = philox(1, static_cast<std::uint64_t>(n), 0);
      const double u = uniform_open(bits.word[0], bits.word[1]);
      const double drawn = std::pow(static_cast<double>(model_.vocab_size), u);
      token.push_back(static_cast<std::int32_t>(drawn) - 1);
    }
    label.assign(token.begin() + 1, token.end());
    token.pop_back();
    EmbeddingIndex index = make_embedding_index(token);
    const std::int64_t distinct = std::ssize(index.segment_token);
    upload(s, b.token_N, token);
    upload(s, b.label_N, label);
    upload(s, b.position_N, index.position);
    upload(s, b.begin_S1, index.segment_begin);
    upload(s, b.token_S, index.segment_token);
    sort_ = {b.position_N, slice(b.begin_S1, 0, distinct + 1), slice(b.token_S, 0, distinct)};
  }

  LlamaShapes model_;
  MicroBatchShape batch_;
  ShardLayout full_;    // on one rank
  ShardLayout shared_;  // this rank's part
  double optimizer_share_ = 1;
  EmbeddingSort sort_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<BenchBuffers<T>> buffers_;
};

}  // namespace koios
