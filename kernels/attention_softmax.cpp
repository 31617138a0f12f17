#include "kernels/detail/attention_softmax.hpp"

#include <Kokkos_Core.hpp>

#include "core/dtype.hpp"
#include "core/host_device.hpp"
#include "kernels/detail/launch.hpp"

namespace koios::detail {
namespace {

using Teams = Kokkos::TeamPolicy<Kokkos::Cuda>;
using Team = Teams::member_type;
constexpr int kThreads = 128;

Teams teams_of(Stream& stream, const ScoreBlock& block) {
  return Teams(cuda_instance(stream), narrow<int>(block.heads * block.queries), kThreads);
}

/// What a team knows of its row: it sees the keys `first` to `end` - 1.
struct Row {
  std::int64_t head, query, first, end, offset;

  KOIOS_HOST_DEVICE bool sees(std::int64_t key) const { return key >= first && key < end; }

  KOIOS_HOST_DEVICE Row(const ScoreBlock& block, int rank)
      : head(rank / block.queries),
        query(block.first_query + rank % block.queries),
        first(block.document_start == nullptr ? 0 : block.document_start[query]),
        end(block.earlier_keys + query + 1),
        offset((head * block.queries + rank % block.queries) * block.pitch) {}
};

template <class T>
struct Softmax {
  ScoreBlock block;
  T* p;
  LseRows lse;
  const float* scores;

  KOIOS_HOST_DEVICE void operator()(const Team& team) const {
    const Row row(block, team.league_rank());
    const float* s = scores + row.offset;
    T* out = p + row.offset;
    float largest = 0;
    Kokkos::parallel_reduce(
        Kokkos::TeamThreadRange(team, row.first, row.end),
        [&](std::int64_t j, float& m) { m = s[j] > m ? s[j] : m; }, Kokkos::Max<float>(largest));
    float sum = 0;
    Kokkos::parallel_reduce(
        Kokkos::TeamThreadRange(team, row.first, row.end),
        [&](std::int64_t j, float& t) { t += Kokkos::exp(s[j] - largest); }, sum);
    const float inverse = 1.0F / sum;
    Kokkos::parallel_for(Kokkos::TeamThreadRange(team, block.keys), [&](std::int64_t j) {
      out[j] = static_cast<T>(row.sees(j) ? Kokkos::exp(s[j] - largest) * inverse : 0.0F);
    });
    Kokkos::single(Kokkos::PerTeam(team), [&] {
      lse.data[row.head * lse.head_step + row.query] = largest + Kokkos::log(sum);
    });
  }
};

template <class T>
struct SoftmaxBackward {
  ScoreBlock block;
  T* p;
  T* ds;
  LseRows lse;
  const float* scores;
  const float* dp;
  float scale;

  KOIOS_HOST_DEVICE void operator()(const Team& team) const {
    const Row row(block, team.league_rank());
    const float* s = scores + row.offset;
    const float* d = dp + row.offset;
    T* p_out = p + row.offset;
    T* ds_out = ds + row.offset;
    const float log_sum = lse.data[row.head * lse.head_step + row.query];
    float delta = 0;
    Kokkos::parallel_reduce(
        Kokkos::TeamThreadRange(team, row.first, row.end),
        [&](std::int64_t j, float& t) { t += Kokkos::exp(s[j] - log_sum) * d[j]; }, delta);
    Kokkos::parallel_for(Kokkos::TeamThreadRange(team, block.keys), [&](std::int64_t j) {
      const bool visible = row.sees(j);
      const float probability = visible ? Kokkos::exp(s[j] - log_sum) : 0.0F;
      const float gradient = visible ? scale * probability * (d[j] - delta) : 0.0F;
      p_out[j] = static_cast<T>(probability);
      ds_out[j] = static_cast<T>(gradient);
    });
  }
};

template <class T>
struct StoreHeads {
  T* dst;
  std::int64_t pitch;
  const float* src;
  std::int64_t tokens, head_dim;

  KOIOS_HOST_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t e = i % head_dim;
    const std::int64_t t = i / head_dim % tokens;
    const std::int64_t head = i / head_dim / tokens;
    dst[t * pitch + head * head_dim + e] = static_cast<T>(src[i]);
  }
};

}  // namespace

template <class T>
void softmax_scores(Stream& stream, const ScoreBlock& block, T* p, LseRows lse,
                    const float* scores) {
  Kokkos::parallel_for("attention_softmax", teams_of(stream, block),
                       Softmax<T>{block, p, lse, scores});
}

template <class T>
void softmax_scores_backward(Stream& stream, const ScoreBlock& block, T* p, T* ds, LseRows lse,
                             const float* scores, const float* dp, float scale) {
  Kokkos::parallel_for("attention_softmax_backward", teams_of(stream, block),
                       SoftmaxBackward<T>{block, p, ds, lse, scores, dp, scale});
}

template <class T>
void store_heads(Stream& stream, T* dst, std::int64_t pitch, const float* src, std::int64_t heads,
                 std::int64_t tokens, std::int64_t head_dim) {
  using Range = Kokkos::RangePolicy<Kokkos::Cuda, Kokkos::IndexType<std::int64_t>>;
  Kokkos::parallel_for("attention_store_heads",
                       Range(cuda_instance(stream), 0, heads * tokens * head_dim),
                       StoreHeads<T>{dst, pitch, src, tokens, head_dim});
}

#define KOIOS_INSTANTIATE(T)                                                              \
  template void softmax_scores<T>(Stream&, const ScoreBlock&, T*, LseRows, const float*); \
  template void softmax_scores_backward<T>(Stream&, const ScoreBlock&, T*, T*, LseRows,   \
                                           const float*, const float*, float);            \
  template void store_heads<T>(Stream&, T*, std::int64_t, const float*, std::int64_t,     \
                               std::int64_t, std::int64_t);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios::detail
