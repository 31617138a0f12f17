// Context parallelism: attention over sequences that the ranks of a group share. Everything else of
// a block is done token by token; here a rank's queries need the keys and values of all tokens
// before them. They are gathered, some heads at a time, so that one gather travels beside the
// attention of the heads before; each of the rank's two chunks of queries then sees the keys from
// the sequence's first to its own. In the backward pass every rank has gradients for all of these
// keys and values: they are summed in float32 and go back to whose they are.
//
// One rank alone attends to what it has, and no buffer is taken.
// Legend: B sequences of T tokens; N = B T / R tokens of this rank, R ranks, sequence by sequence
// and chunk by chunk; C tokens of a chunk; W = columns of the keys of the heads at work.
// comm: gathers and reduce-scatters, on the exchange stream.
#pragma once

#include <array>
#include <cstdint>

#include "comm/communicator.hpp"
#include "core/ref.hpp"
#include "core/sequence_part.hpp"
#include "kernels/attention.hpp"
#include "model/local_shape.hpp"
#include "runtime/arena.hpp"
#include "shard/exposed_wait.hpp"

namespace koios {

/// The ranks that share sequences: in the order of their first chunks, and of their second ones.
struct ContextGroups {
  Communicator& forwards;
  Communicator& backwards;

  SequencePart part() const { return {forwards.size(), forwards.rank()}; }
};

template <class T>
struct ContextBuffers {
  static constexpr int kSlots = 2;  // one is used while the other travels

  std::array<Ref<T, 2>, kSlots> kv;             // (B T, 2 W), k|v of all ranks in their order
  Ref<T, 2> d_kv;                               // (T, 2 W), of one chunk of queries of one sequence
  std::array<Ref<float, 2>, kSlots> d_sum;      // (B T, 2 W), of this rank's queries
  Ref<float, 2> d_mine;                         // (N, 2 W), of all queries
  std::array<Ref<float, 1>, 2> reduce_scratch;  // what the communicators need

  /// reduce_scratch_factor: of the transport.
  ContextBuffers(Arena& arena, const LocalShape& local, int reduce_scratch_factor);
};

/// Queries, keys and values of this rank's tokens, or their gradients.
template <class T>
struct Qkv {
  Ref<T, 2> q_NA, k_N, v_N;
};

template <class T>
class ContextAttention {
 public:
  /// local outlives it. exchange: the stream of communication.
  ContextAttention(const LocalShape& local, const ContextBuffers<T>& buffers, MathHandles& math,
                   Ref<std::byte, 1> workspace, const ContextGroups& groups, Stream& compute,
                   Stream& exchange, ExposedWait& exposed);

  /// attention_forward for this rank's tokens. documents: positions in whole sequences.
  void forward(Ref<T, 2> o_NA, Ref<float, 1> lse, const Qkv<const T>& x,
               const Documents& documents);
  /// Sends the first keys and values on their way, which the next backward() of the same x uses.
  void prepare_backward(const Qkv<const T>& x);
  /// attention_backward for this rank's tokens.
  void backward(const Qkv<T>& dx, Ref<const T, 2> d_o_NA, Ref<const T, 2> o_NA,
                Ref<const float, 1> lse, const Qkv<const T>& x, const Documents& documents);

 private:
  static constexpr int kChunks = 2;

  /// One fused call: heads of one chunk of one sequence.
  struct Call {
    AttentionShape shape;
    std::int64_t first_row;  // of this rank's N
    std::int64_t first_key;  // of the gathered rows: the sequence's first
    std::int64_t first_query_col;
    std::int64_t first_lse;

    std::int64_t queries() const { return shape.seq_len; }
    std::int64_t query_cols() const { return shape.heads * shape.head_dim; }
    Documents parts(const Documents& documents) const {
      if (!shape.document_mask) return {};
      return {.start_BT = slice(documents.start_BT, first_row, queries()), .begin_D1 = {}};
    }
    template <class U>
    Ref<U, 2> of(Ref<U, 2> queries_NA) const {
      return column_range(row_range(queries_NA, first_row, queries()), first_query_col,
                          query_cols());
    }
    template <class U>
    Ref<U, 1> statistics(Ref<U, 1> lse) const {
      return slice(lse, first_lse, shape.heads * queries());
    }
  };

  bool is_alone() const { return part_.ranks == 1; }
  std::int64_t rounds() const { return local_.kv_heads / local_.context.kv_heads; }
  std::int64_t width() const { return local_.context.kv_heads * local_.attention.head_dim; }
  Call call(std::int64_t round, std::int64_t sequence, int chunk) const;
  static std::size_t slot(std::int64_t round) {
    return static_cast<std::size_t>(round % ContextBuffers<T>::kSlots);
  }
  Ref<T, 2> k(Ref<T, 2> kv) const { return column_range(kv, 0, width()); }
  Ref<T, 2> v(Ref<T, 2> kv) const { return column_range(kv, width(), width()); }
  Communicator& group(int chunk) const { return chunk == 0 ? groups_.forwards : groups_.backwards; }
  /// Of the rows of whole sequences: those of all ranks' first chunks, or second ones.
  template <class U>
  Ref<U, 2> half(Ref<U, 2> rows, std::int64_t sequence, int chunk) const;
  /// Puts this rank's keys and values among those to come, and begins to gather.
  void gather(const Qkv<const T>& x, std::int64_t round);
  void backward_round(const Qkv<T>& dx, Ref<const T, 2> d_o_NA, Ref<const T, 2> o_NA,
                      Ref<const float, 1> lse, const Qkv<const T>& x, const Documents& documents,
                      std::int64_t round);
  /// Adds a chunk's gradients to those of the round; the chunk that sees most comes first.
  void add_gradients(const Call& call, std::int64_t round, int chunk);
  /// Sends the round's gradients to whose keys and values they are of.
  void reduce(const Qkv<T>& dx, std::int64_t round);

  const LocalShape& local_;
  ContextBuffers<T> buffers_;
  MathHandles& math_;
  Ref<std::byte, 1> workspace_;
  ContextGroups groups_;
  SequencePart part_;
  std::int64_t chunk_len_;
  Stream& compute_;
  Stream& exchange_;
  ExposedWait& exposed_;
  struct Slot {
    Event packed, summed;          // what the exchange stream waits for
    std::array<Event, 2> arrived;  // by chunk
    Event reduced;
    explicit Slot(Backend backend)
        : packed(backend),
          summed(backend),
          arrived{Event(backend), Event(backend)},
          reduced(backend) {}
  };
  std::array<Slot, ContextBuffers<T>::kSlots> slots_;
  bool is_prepared_ = false;
};

}  // namespace koios
