#include "model/context_attention.hpp"

#include "core/integers.hpp"
#include "kernels/elementwise.hpp"
#include "runtime/region.hpp"

namespace koios {
namespace {

/// Parts of reduce-scatters begin in a communicator's scratch at multiples of this many bytes.
constexpr std::int64_t kScratchAlignment = 256;

/// All rows, one after the other.
template <class T>
Ref<T, 1> flat(Ref<T, 2> m) {
  KOIOS_REQUIRE(m.is_contiguous(), "rows of ", m.row_size(), " with a pitch of ", m.pitch);
  return make_ref(m.data, m.size());
}

}  // namespace

template <class T>
ContextBuffers<T>::ContextBuffers(Arena& arena, const LocalShape& local,
                                  int reduce_scratch_factor) {
  const ContextShape& c = local.context;
  if (c.ranks == 1) return;
  constexpr std::string_view kLabel = "keys and values of all ranks";
  constexpr std::string_view kGradients = "their gradients";
  const std::int64_t columns = 2 * c.kv_heads * local.attention.head_dim;
  const std::int64_t rows = c.sequences * c.seq_len;
  for (Ref<T, 2>& one : kv) one = arena.take<T>(kLabel, rows, columns);
  d_kv = arena.take<T>(kGradients, c.seq_len, columns);
  for (Ref<float, 2>& one : d_sum) one = arena.take<float>(kGradients, rows, columns);
  d_mine = arena.take<float>(kGradients, local.tokens, columns);
  if (reduce_scratch_factor == 0) return;
  const std::int64_t half = c.seq_len / 2 * columns * std::int64_t{sizeof(float)};
  const std::int64_t bytes = c.sequences * round_up(half, kScratchAlignment);
  for (Ref<float, 1>& one : reduce_scratch) {
    one = arena.take<float>("reduce-scatter scratch",
                            bytes / std::int64_t{sizeof(float)} * reduce_scratch_factor);
  }
}

template <class T>
ContextAttention<T>::ContextAttention(const LocalShape& local, const ContextBuffers<T>& buffers,
                                      MathHandles& math, Ref<std::byte, 1> workspace,
                                      const ContextGroups& groups, Stream& compute,
                                      Stream& exchange, ExposedWait& exposed)
    : local_(local),
      buffers_(buffers),
      math_(math),
      workspace_(workspace),
      groups_(groups),
      part_(groups.part()),
      chunk_len_(part_.chunk_len(local.context.seq_len)),
      compute_(compute),
      exchange_(exchange),
      exposed_(exposed),
      slots_{Slot(compute.backend()), Slot(compute.backend())} {
  KOIOS_REQUIRE(part_.ranks == local.context.ranks, "a group of ", part_.ranks, " shares ",
                local.context.ranks, " parts");
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const Ref<float, 1> scratch = buffers_.reduce_scratch[static_cast<std::size_t>(chunk)];
    if (scratch.size() > 0) group(chunk).set_reduce_scratch(any(scratch));
  }
}

template <class T>
typename ContextAttention<T>::Call ContextAttention<T>::call(std::int64_t round,
                                                             std::int64_t sequence,
                                                             int chunk) const {
  AttentionShape shape = local_.attention;
  shape.earlier_keys = part_.begin(chunk, local_.context.seq_len);
  const std::int64_t number = sequence * kChunks + chunk;
  const std::int64_t first_head = round * shape.heads;
  return {.shape = shape,
          .first_row = number * chunk_len_,
          .first_key = sequence * local_.context.seq_len,
          .first_query_col = first_head * shape.head_dim,
          .first_lse = (number * local_.heads + first_head) * chunk_len_};
}

template <class T>
template <class U>
Ref<U, 2> ContextAttention<T>::half(Ref<U, 2> rows, std::int64_t sequence, int chunk) const {
  const std::int64_t count = part_.ranks * chunk_len_;
  return row_range(rows, (sequence * kChunks + chunk) * count, count);
}

template <class T>
void ContextAttention<T>::gather(const Qkv<const T>& x, std::int64_t round) {
  const Ref<T, 2> kv = buffers_.kv[slot(round)];
  Slot& events = slots_[slot(round)];
  for (std::int64_t sequence = 0; sequence < local_.context.sequences; ++sequence) {
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const Call c = call(round, sequence, chunk);
      const Ref<T, 2> place = row_range(kv, c.first_key + c.shape.earlier_keys, chunk_len_);
      const auto mine = [&](Ref<const T, 2> all_N) {
        return column_range(row_range(all_N, c.first_row, chunk_len_), round * width(), width());
      };
      copy_matrix<T>(compute_, k(place), mine(x.k_N));
      copy_matrix<T>(compute_, v(place), mine(x.v_N));
    }
  }
  events.packed.record(compute_);
  exchange_.wait(events.packed);
  const Region region(exchange_, "keys and values", passes_over(kv));
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    {
      GroupCall together(group(chunk));
      for (std::int64_t sequence = 0; sequence < local_.context.sequences; ++sequence) {
        group(chunk).all_gather(any(half(kv, sequence, chunk)), exchange_);
      }
    }
    events.arrived[static_cast<std::size_t>(chunk)].record(exchange_);
  }
}

template <class T>
void ContextAttention<T>::forward(Ref<T, 2> o_NA, Ref<float, 1> lse, const Qkv<const T>& x,
                                  const Documents& documents) {
  if (is_alone()) {
    return attention_forward<T>(math_, compute_, local_.attention, o_NA, lse, x.q_NA, x.k_N, x.v_N,
                                workspace_, documents);
  }
  gather(x, 0);
  for (std::int64_t round = 0; round < rounds(); ++round) {
    if (round + 1 < rounds()) gather(x, round + 1);
    const Ref<T, 2> kv = buffers_.kv[slot(round)];
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      // The first chunk sees keys of first chunks only, and begins when these are here.
      exposed_.wait(slots_[slot(round)].arrived[static_cast<std::size_t>(chunk)]);
      for (std::int64_t sequence = 0; sequence < local_.context.sequences; ++sequence) {
        const Call c = call(round, sequence, chunk);
        const Ref<T, 2> seen = row_range(kv, c.first_key, c.shape.kv_len());
        attention_forward<T>(math_, compute_, c.shape, c.of(o_NA), c.statistics(lse), c.of(x.q_NA),
                             k(seen), v(seen), workspace_, c.parts(documents));
      }
    }
  }
}

template <class T>
void ContextAttention<T>::prepare_backward(const Qkv<const T>& x) {
  if (is_alone()) return;
  gather(x, 0);
  is_prepared_ = true;
}

template <class T>
void ContextAttention<T>::backward(const Qkv<T>& dx, Ref<const T, 2> d_o_NA, Ref<const T, 2> o_NA,
                                   Ref<const float, 1> lse, const Qkv<const T>& x,
                                   const Documents& documents) {
  if (is_alone()) {
    return attention_backward<T>(math_, compute_, local_.attention, dx.q_NA, dx.k_N, dx.v_N, d_o_NA,
                                 o_NA, lse, x.q_NA, x.k_N, x.v_N, workspace_, documents);
  }
  KOIOS_REQUIRE(is_prepared_, "no keys are on their way");
  is_prepared_ = false;
  for (std::int64_t round = 0; round < rounds(); ++round) {
    if (round + 1 < rounds()) gather(x, round + 1);
    backward_round(dx, d_o_NA, o_NA, lse, x, documents, round);
    reduce(dx, round);
  }
  exposed_.wait(slots_[slot(rounds() - 1)].reduced);  // and so the rounds before
}

template <class T>
void ContextAttention<T>::backward_round(const Qkv<T>& dx, Ref<const T, 2> d_o_NA,
                                         Ref<const T, 2> o_NA, Ref<const float, 1> lse,
                                         const Qkv<const T>& x, const Documents& documents,
                                         std::int64_t round) {
  const Slot& events = slots_[slot(round)];
  exposed_.wait(events.reduced);  // the sums of two rounds before have left
  for (const Event& arrived : events.arrived) exposed_.wait(arrived);
  for (std::int64_t sequence = 0; sequence < local_.context.sequences; ++sequence) {
    for (int chunk = kChunks - 1; chunk >= 0; --chunk) {
      const Call c = call(round, sequence, chunk);
      const Ref<const T, 2> seen =
          row_range(buffers_.kv[slot(round)], c.first_key, c.shape.kv_len());
      const Ref<T, 2> d_seen = row_range(buffers_.d_kv, 0, c.shape.kv_len());
      attention_backward<T>(math_, compute_, c.shape, c.of(dx.q_NA), k(d_seen), v(d_seen),
                            c.of(d_o_NA), c.of(o_NA), c.statistics(lse), c.of(x.q_NA),
                            column_range(seen, 0, width()), column_range(seen, width(), width()),
                            workspace_, c.parts(documents));
      add_gradients(c, round, chunk);
    }
  }
}

template <class T>
void ContextAttention<T>::add_gradients(const Call& call, std::int64_t round, int chunk) {
  const std::int64_t seen = call.shape.kv_len();
  const Ref<float, 2> sum =
      row_range(buffers_.d_sum[slot(round)], call.first_key, local_.context.seq_len);
  const Ref<float, 1> sum_seen = flat(row_range(sum, 0, seen));
  const Ref<const T, 1> part = flat(row_range(buffers_.d_kv, 0, seen));
  if (chunk == 0) return add_into<float, T>(compute_, sum_seen, part);
  cast<float, T>(compute_, sum_seen, part);
  fill(compute_, flat(row_range(sum, seen, sum.extent[0] - seen)), 0);
}

template <class T>
void ContextAttention<T>::reduce(const Qkv<T>& dx, std::int64_t round) {
  Slot& events = slots_[slot(round)];
  events.summed.record(compute_);
  exchange_.wait(events.summed);
  const Region region(exchange_, "gradients of keys and values",
                      passes_over(buffers_.d_sum[slot(round)]));
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    GroupCall together(group(chunk));
    for (std::int64_t sequence = 0; sequence < local_.context.sequences; ++sequence) {
      const Ref<float, 2> mine =
          row_range(buffers_.d_mine, call(round, sequence, chunk).first_row, chunk_len_);
      group(chunk).reduce_scatter(any(half(buffers_.d_sum[slot(round)], sequence, chunk)),
                                  any(mine), ReduceOp::sum, exchange_);
    }
  }
  const auto take = [&](Ref<T, 2> d_N, std::int64_t first_col) {
    const Ref<const float, 2> sums = column_range(buffers_.d_mine, first_col, width());
    cast<T, float>(exchange_, column_range(d_N, round * width(), width()), sums);
  };
  take(dx.k_N, 0);
  take(dx.v_N, width());
  events.reduced.record(exchange_);
}

template struct ContextBuffers<float>;
template struct ContextBuffers<bf16>;
template class ContextAttention<float>;
template class ContextAttention<bf16>;

}  // namespace koios
