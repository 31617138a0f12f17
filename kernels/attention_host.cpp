// FlashAttention-2 on the CPU. Keys run along the vector lanes: small head sizes (16 in the debug
// model) then fill whole vectors, and the exponentials do too. For this K and V are transposed
// once per call into the workspace, in blocks that stay in the first-level cache.
// All products are tile_product on packed float tiles padded with zeros, whatever T is in memory.
// Probabilities are kept as powers of two: q is scaled by log2(e)/sqrt(E) when it is packed.
// ref: Dao 2023, algorithms 1 (forward) and 2 (backward).
#include "kernels/detail/attention_host.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "core/integers.hpp"
#include "kernels/detail/host_parallel.hpp"
#include "kernels/detail/host_simd.hpp"

namespace koios::detail {
namespace {

constexpr std::int64_t kMaxHeadDim = 256;
constexpr std::int64_t kQueries = 32;  // rows of a query block, a multiple of kTileRows
constexpr std::int64_t kMaxKeys = 128;
static_assert(kQueries % kTileRows == 0);
constexpr float kLog2E = std::numbers::log2e_v<float>;
constexpr float kLn2 = std::numbers::ln2_v<float>;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kLowest = std::numeric_limits<float>::lowest();

/// Sizes of the packed tiles.
struct Tiling {
  std::int64_t head_dim;         // E
  std::int64_t padded_head_dim;  // to whole vectors
  std::int64_t keys;             // of a key block
  std::int64_t padded_tokens;    // of the keys, to whole blocks

  explicit Tiling(const AttentionShape& shape)
      : head_dim(shape.head_dim),
        padded_head_dim(round_up(shape.head_dim, kLanes)),
        keys(shape.head_dim <= 32 ? kMaxKeys : kMaxKeys / 2),
        padded_tokens(round_up(shape.kv_len(), keys)) {
    KOIOS_REQUIRE(shape.head_dim <= kMaxHeadDim, "head size ", shape.head_dim);
  }

  std::int64_t transposed_size() const { return head_dim * padded_tokens; }
  std::int64_t row_size() const { return padded_head_dim * padded_tokens; }
};

/// Hands out float arrays of the workspace, one per sequence and key/value head.
class Scratch {
 public:
  explicit Scratch(Ref<std::byte, 1> workspace) : next_(reinterpret_cast<float*>(workspace.data)) {}
  float* take(std::int64_t count) { return std::exchange(next_, next_ + count); }

 private:
  float* next_;
};

/// Rows of one head: element (t, e) of the sequence.
template <class T>
struct HeadRows {
  T* data;
  std::int64_t pitch;

  T* row(std::int64_t t) const { return data + t * pitch; }
};

/// tokens: rows of each sequence.
template <class T>
HeadRows<T> head_rows(const Matrix& m, const AttentionShape& shape, std::int64_t tokens,
                      std::int64_t b, std::int64_t head) {
  auto* data = static_cast<T*>(const_cast<void*>(m.data));
  return {data + b * tokens * m.pitch + head * shape.head_dim, m.pitch};
}

template <class T>
HeadRows<T> query_rows(const Matrix& m, const AttentionShape& shape, std::int64_t b,
                       std::int64_t head) {
  return head_rows<T>(m, shape, shape.seq_len, b, head);
}

template <class T>
HeadRows<T> key_rows(const Matrix& m, const AttentionShape& shape, std::int64_t b,
                     std::int64_t head) {
  return head_rows<T>(m, shape, shape.kv_len(), b, head);
}

/// dst (blocks of E x block_size) = scale * the rows transposed; rows past `rows` are zero.
template <class T>
void pack_transposed(float* dst, HeadRows<T> src, const Tiling& tiling, std::int64_t block_size,
                     std::int64_t rows, std::int64_t padded_rows, float scale = 1) {
  for (std::int64_t t = 0; t < padded_rows; t += kLanes) {
    float* columns = dst + t / block_size * block_size * tiling.head_dim + t % block_size;
    for (std::int64_t e = 0; e < tiling.head_dim; e += kLanes) {
      Vec square[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        square[i] = t + i < rows ? scale * load_part(src.row(t + i), e, tiling.head_dim) : Vec{};
      }
      transpose(square);
      const std::int64_t count = std::min<std::int64_t>(kLanes, tiling.head_dim - e);
      for (std::int64_t i = 0; i < count; ++i) store(columns + (e + i) * block_size, square[i]);
    }
  }
}

/// dst (padded_rows x padded E) = scale * rows; padding is zero.
template <class T>
void pack_rows(float* dst, HeadRows<T> src, const Tiling& tiling, std::int64_t rows,
               std::int64_t padded_rows, float scale = 1) {
  for (std::int64_t t = 0; t < padded_rows; ++t) {
    for (std::int64_t e = 0; e < tiling.padded_head_dim; e += kLanes, dst += kLanes) {
      store(dst, t < rows ? scale * load_part(src.row(t), e, tiling.head_dim) : Vec{});
    }
  }
}

/// One row = scale * src (padded E)
template <class T>
void unpack_row(T* dst, const float* src, const Tiling& tiling, float scale) {
  for (std::int64_t e = 0; e < tiling.head_dim; e += kLanes) {
    store_part(dst, e, tiling.head_dim, scale * load(src + e));
  }
}

/// In a block of the score matrix that the diagonal crosses: those of later keys vanish. own_key:
/// the first query's.
void mask_later_keys(float* scores, std::int64_t own_key, std::int64_t first_key,
                     std::int64_t keys) {
  for (std::int64_t i = 0; i < kQueries; ++i) {
    const auto last_key = static_cast<std::int32_t>(own_key + i - first_key);
    for (std::int64_t j = 0; j < keys; j += kLanes) {
      float* at = scores + i * kMaxKeys + j;
      const IntVec key = lane_indices() + static_cast<std::int32_t>(j);
      store(at, key > last_key ? broadcast(kMinusInfinity) : load(at));
    }
  }
}

/// The first key that each query of a block sees.
struct FirstKeys {
  std::int32_t of[kQueries] = {};  // rows past the sequence's end: as the last query
  std::int32_t lowest = 0;
  std::int32_t highest = 0;

  /// document_start: of the whole sequence, null without the mask.
  FirstKeys(const std::int32_t* document_start, std::int64_t first_query, std::int64_t queries) {
    if (document_start == nullptr) return;
    for (std::int64_t i = 0; i < kQueries; ++i) {
      of[i] = document_start[first_query + std::min(i, queries - 1)];
    }
    lowest = of[0];  // documents follow one another
    highest = of[kQueries - 1];
  }

  /// Where the first key block begins that any of the queries sees.
  std::int64_t block(const Tiling& tiling) const { return lowest / tiling.keys * tiling.keys; }
};

const std::int32_t* document_starts(const AttentionCall& call, std::int64_t b) {
  return call.shape.document_mask ? call.documents.start_BT.data + b * call.shape.seq_len : nullptr;
}

/// Scores of earlier documents' keys vanish.
void mask_earlier_documents(float* scores, const FirstKeys& first, std::int64_t first_key,
                            std::int64_t keys) {
  for (std::int64_t i = 0; i < kQueries; ++i) {
    const auto hidden = first.of[i] - static_cast<std::int32_t>(first_key);
    for (std::int64_t j = 0; j < std::min<std::int64_t>(keys, hidden); j += kLanes) {
      float* at = scores + i * kMaxKeys + j;
      const IntVec key = lane_indices() + static_cast<std::int32_t>(j);
      store(at, key < hidden ? broadcast(kMinusInfinity) : load(at));
    }
  }
}

/// Keys of the block from first_key on that the query block sees, in whole vectors. end_key: after
/// the last query's own.
std::int64_t visible_keys(const Tiling& tiling, std::int64_t first_key, std::int64_t end_key) {
  return round_up(std::min(tiling.keys, end_key - first_key), kLanes);
}

/// Left operands: a query block packed transposed; probabilities, or their gradients, as they are
/// (kQueries x kMaxKeys) or as their transposes.
using TransposedQueries = Scalars<1, kQueries>;
using Scores = Scalars<kMaxKeys, 1>;
using TransposedScores = Scalars<1, kMaxKeys>;

/// The packed keys and values of one sequence and key/value head.
struct PackedHead {
  const float* k_transposed;
  const float* v;
};

/// Softmax statistics of a query block, and its unnormalised output.
struct OutputBlock {
  alignas(64) float o[kQueries * kMaxHeadDim];
  alignas(64) float max[kQueries];      // of the scores so far
  alignas(64) float rescale[kQueries];  // 2^(old max - new max)
  Vec sum[kQueries];                    // denominators, still spread over the lanes

  explicit OutputBlock(const Tiling& tiling) {
    std::fill_n(o, kQueries * tiling.padded_head_dim, 0.0F);
    // Not minus infinity: a row may see no key of the first block, and then this is its maximum.
    std::fill_n(max, kQueries, kLowest);
    std::fill_n(sum, kQueries, Vec{});
  }
};

/// scores -> 2^(scores - row maximum), with statistics and output brought to the new maximum.
void softmax_block(OutputBlock& out, float* scores, std::int64_t keys, const Tiling& tiling) {
  for (std::int64_t i = 0; i < kQueries; ++i) {
    const float* row = scores + i * kMaxKeys;
    Vec largest = load(row);
    for (std::int64_t j = kLanes; j < keys; j += kLanes) largest = max(largest, load(row + j));
    const float new_max = std::max(out.max[i], horizontal_max(largest));
    out.rescale[i] = out.max[i] - new_max;
    out.max[i] = new_max;
  }
  for (std::int64_t i = 0; i < kQueries; i += kLanes) {
    store(out.rescale + i, exp2_nonpositive(load(out.rescale + i)));
  }
  for (std::int64_t i = 0; i < kQueries; ++i) {
    float* row = scores + i * kMaxKeys;
    Vec sum = out.sum[i] * out.rescale[i];
    for (std::int64_t j = 0; j < keys; j += kLanes) {
      const Vec p = exp2_nonpositive(load(row + j) - out.max[i]);
      store(row + j, p);
      sum += p;
    }
    out.sum[i] = sum;
    float* o = out.o + i * tiling.padded_head_dim;
    for (std::int64_t e = 0; e < tiling.padded_head_dim; e += kLanes) {
      store(o + e, load(o + e) * out.rescale[i]);
    }
  }
}

/// One query block of one head.
template <class T>
void forward_block(HeadRows<T> o, float* lse, HeadRows<const T> q, PackedHead packed,
                   const Tiling& tiling, const AttentionShape& shape, std::int64_t first_query,
                   const std::int32_t* document_start) {
  alignas(64) float q_transposed[kQueries * kMaxHeadDim];
  alignas(64) float scores[kQueries * kMaxKeys];
  OutputBlock out(tiling);
  const std::int64_t queries = std::min(kQueries, shape.seq_len - first_query);
  const std::int64_t own_key = shape.earlier_keys + first_query;
  const std::int64_t end_key = own_key + queries;
  const float scale = kLog2E / std::sqrt(static_cast<float>(shape.head_dim));
  pack_transposed(q_transposed, HeadRows<const T>{q.row(first_query), q.pitch}, tiling, kQueries,
                  queries, kQueries, scale);

  const FirstKeys first_keys(document_start, first_query, queries);
  for (std::int64_t key = first_keys.block(tiling); key < end_key; key += tiling.keys) {
    const std::int64_t keys = visible_keys(tiling, key, end_key);
    tile_product<false>(scores, kMaxKeys, TransposedQueries{q_transposed},
                        packed.k_transposed + key * tiling.head_dim, tiling.keys, kQueries, keys,
                        tiling.head_dim);
    if (key + keys > own_key + 1) mask_later_keys(scores, own_key, key, keys);
    if (key < first_keys.highest) mask_earlier_documents(scores, first_keys, key, keys);
    softmax_block(out, scores, keys, tiling);
    tile_product<true>(out.o, tiling.padded_head_dim, Scores{scores},
                       packed.v + key * tiling.padded_head_dim, tiling.padded_head_dim, kQueries,
                       tiling.padded_head_dim, keys);
  }

  for (std::int64_t i = 0; i < queries; ++i) {
    const float sum = horizontal_sum(out.sum[i]);
    unpack_row(o.row(first_query + i), out.o + i * tiling.padded_head_dim, tiling, 1 / sum);
    lse[first_query + i] = kLn2 * (out.max[i] + std::log2(sum));
  }
}

template <class T>
void forward(const AttentionCall& call) {
  const AttentionShape& shape = call.shape;
  const Tiling tiling(shape);
  const std::int64_t kv_heads = shape.batch * shape.kv_heads;
  Scratch scratch(call.workspace);
  float* k_transposed = scratch.take(kv_heads * tiling.transposed_size());
  float* v = scratch.take(kv_heads * tiling.row_size());

  host_parallel_for("attention_pack", kv_heads, [&](std::int64_t i) {
    const std::int64_t b = i / shape.kv_heads;
    const std::int64_t head = i % shape.kv_heads;
    pack_transposed(k_transposed + i * tiling.transposed_size(),
                    key_rows<const T>(call.k, shape, b, head), tiling, tiling.keys, shape.kv_len(),
                    tiling.padded_tokens);
    pack_rows(v + i * tiling.row_size(), key_rows<const T>(call.v, shape, b, head), tiling,
              shape.kv_len(), tiling.padded_tokens);
  });

  const std::int64_t blocks = ceil_div(shape.seq_len, kQueries);
  const std::int64_t group = shape.heads / shape.kv_heads;
  host_parallel_for("attention_forward", shape.batch * shape.heads * blocks, [&](std::int64_t i) {
    const std::int64_t b = i / blocks / shape.heads;
    const std::int64_t head = i / blocks % shape.heads;
    const std::int64_t block = i % blocks;
    const std::int64_t kv = b * shape.kv_heads + head / group;
    forward_block(query_rows<T>(call.o, shape, b, head),
                  call.lse_BHT + (b * shape.heads + head) * shape.seq_len,
                  query_rows<const T>(call.q, shape, b, head),
                  {k_transposed + kv * tiling.transposed_size(), v + kv * tiling.row_size()},
                  tiling, shape, block * kQueries, document_starts(call, b));
  });
}

/// What one task of the backward pass keeps of its key/value head.
struct BackwardHead {
  float* k_transposed;
  float* v_transposed;
  float* k;
  float* dk;  // accumulated over the query heads of the group, times log2(e)
  float* dv;
};

/// A query block in the backward pass.
struct GradientBlock {
  alignas(64) float q[kQueries * kMaxHeadDim];
  alignas(64) float q_transposed[kQueries * kMaxHeadDim];
  alignas(64) float d_o[kQueries * kMaxHeadDim];
  alignas(64) float d_o_transposed[kQueries * kMaxHeadDim];
  alignas(64) float dq[kQueries * kMaxHeadDim];
  alignas(64) float lse[kQueries] = {};    // in powers of two
  alignas(64) float delta[kQueries] = {};  // sum_e d_o o
  FirstKeys first_keys;

  explicit GradientBlock(const FirstKeys& first) : first_keys(first) {}
};

template <class T>
void load_statistics(GradientBlock& block, const float* lse, HeadRows<const T> o,
                     const Tiling& tiling, std::int64_t first_query, std::int64_t queries) {
  for (std::int64_t i = 0; i < queries; ++i) {
    const T* o_row = o.row(first_query + i);
    Vec sum{};
    for (std::int64_t e = 0; e < tiling.head_dim; e += kLanes) {
      sum +=
          load(block.d_o + i * tiling.padded_head_dim + e) * load_part(o_row, e, tiling.head_dim);
    }
    block.delta[i] = horizontal_sum(sum);
    block.lse[i] = kLog2E * lse[first_query + i];
  }
}

/// Adds what one query block and one key block give each other to dq, dk and dv. own_key: the first
/// query's.
void backward_tile(GradientBlock& block, const BackwardHead& head, const Tiling& tiling,
                   std::int64_t own_key, std::int64_t key, std::int64_t keys) {
  alignas(64) float p[kQueries * kMaxKeys];
  alignas(64) float ds[kQueries * kMaxKeys];
  const std::int64_t width = tiling.padded_head_dim;
  tile_product<false>(p, kMaxKeys, TransposedQueries{block.q_transposed},
                      head.k_transposed + key * tiling.head_dim, tiling.keys, kQueries, keys,
                      tiling.head_dim);
  if (key + keys > own_key + 1) mask_later_keys(p, own_key, key, keys);
  if (key < block.first_keys.highest) mask_earlier_documents(p, block.first_keys, key, keys);
  tile_product<false>(ds, kMaxKeys, TransposedQueries{block.d_o_transposed},
                      head.v_transposed + key * tiling.head_dim, tiling.keys, kQueries, keys,
                      tiling.head_dim);
  for (std::int64_t i = 0; i < kQueries; ++i) {
    for (std::int64_t j = i * kMaxKeys; j < i * kMaxKeys + keys; j += kLanes) {
      const Vec probability = exp2_nonpositive(load(p + j) - block.lse[i]);
      store(p + j, probability);
      store(ds + j, probability * (load(ds + j) - block.delta[i]));
    }
  }
  tile_product<true>(head.dv + key * width, width, TransposedScores{p}, block.d_o, width, keys,
                     width, kQueries);
  tile_product<true>(head.dk + key * width, width, TransposedScores{ds}, block.q, width, keys,
                     width, kQueries);
  tile_product<true>(block.dq, width, Scores{ds}, head.k + key * width, width, kQueries, width,
                     keys);
}

/// All query blocks of one query head.
template <class T>
void backward_query_head(const AttentionCall& call, const BackwardHead& kv, const Tiling& tiling,
                         std::int64_t b, std::int64_t head) {
  const AttentionShape& shape = call.shape;
  const float root = std::sqrt(static_cast<float>(shape.head_dim));
  const auto q = query_rows<const T>(call.q, shape, b, head);
  const auto o = query_rows<const T>(call.o, shape, b, head);
  const auto d_o = query_rows<const T>(call.d_o, shape, b, head);
  const auto dq = query_rows<T>(call.dq, shape, b, head);
  const float* lse = call.lse_BHT + (b * shape.heads + head) * shape.seq_len;

  for (std::int64_t first = 0; first < shape.seq_len; first += kQueries) {
    const std::int64_t queries = std::min(kQueries, shape.seq_len - first);
    GradientBlock block(FirstKeys(document_starts(call, b), first, queries));
    const HeadRows<const T> q_rows{q.row(first), q.pitch};
    const HeadRows<const T> d_o_rows{d_o.row(first), d_o.pitch};
    const float scale = kLog2E / root;
    pack_rows(block.q, q_rows, tiling, queries, kQueries, scale);
    pack_rows(block.d_o, d_o_rows, tiling, queries, kQueries);
    pack_transposed(block.q_transposed, q_rows, tiling, kQueries, queries, kQueries, scale);
    pack_transposed(block.d_o_transposed, d_o_rows, tiling, kQueries, queries, kQueries);
    std::fill_n(block.dq, kQueries * tiling.padded_head_dim, 0.0F);
    load_statistics(block, lse, o, tiling, first, queries);
    const std::int64_t own_key = shape.earlier_keys + first;
    const std::int64_t end_key = own_key + queries;
    for (std::int64_t key = block.first_keys.block(tiling); key < end_key; key += tiling.keys) {
      backward_tile(block, kv, tiling, own_key, key, visible_keys(tiling, key, end_key));
    }
    for (std::int64_t i = 0; i < queries; ++i) {
      unpack_row(dq.row(first + i), block.dq + i * tiling.padded_head_dim, tiling, 1 / root);
    }
  }
}

template <class T>
void backward(const AttentionCall& call) {
  const AttentionShape& shape = call.shape;
  const Tiling tiling(shape);
  const std::int64_t kv_heads = shape.batch * shape.kv_heads;
  const std::int64_t group = shape.heads / shape.kv_heads;
  Scratch scratch(call.workspace);
  const BackwardHead first{
      scratch.take(kv_heads * tiling.transposed_size()),
      scratch.take(kv_heads * tiling.transposed_size()), scratch.take(kv_heads * tiling.row_size()),
      scratch.take(kv_heads * tiling.row_size()), scratch.take(kv_heads * tiling.row_size())};

  // dk and dv belong to one task, so nothing is added up in an order that could change.
  host_parallel_for("attention_backward", kv_heads, [&](std::int64_t i) {
    const std::int64_t b = i / shape.kv_heads;
    const std::int64_t head = i % shape.kv_heads;
    const BackwardHead kv{first.k_transposed + i * tiling.transposed_size(),
                          first.v_transposed + i * tiling.transposed_size(),
                          first.k + i * tiling.row_size(), first.dk + i * tiling.row_size(),
                          first.dv + i * tiling.row_size()};
    const auto k = key_rows<const T>(call.k, shape, b, head);
    const auto v = key_rows<const T>(call.v, shape, b, head);
    const std::int64_t keys = shape.kv_len();
    pack_transposed(kv.k_transposed, k, tiling, tiling.keys, keys, tiling.padded_tokens);
    pack_transposed(kv.v_transposed, v, tiling, tiling.keys, keys, tiling.padded_tokens);
    pack_rows(kv.k, k, tiling, keys, tiling.padded_tokens);
    std::fill_n(kv.dk, tiling.row_size(), 0.0F);
    std::fill_n(kv.dv, tiling.row_size(), 0.0F);
    for (std::int64_t h = head * group; h < (head + 1) * group; ++h) {
      backward_query_head<T>(call, kv, tiling, b, h);
    }
    const auto dk = key_rows<T>(call.dk, shape, b, head);
    const auto dv = key_rows<T>(call.dv, shape, b, head);
    for (std::int64_t t = 0; t < keys; ++t) {
      unpack_row(dk.row(t), kv.dk + t * tiling.padded_head_dim, tiling, kLn2);
      unpack_row(dv.row(t), kv.dv + t * tiling.padded_head_dim, tiling, 1.0F);
    }
  });
}

}  // namespace

std::int64_t attention_host_workspace_bytes(const AttentionShape& shape) {
  const Tiling tiling(shape);
  // The backward pass, which needs more: k and v transposed; k, dk and dv as rows.
  const std::int64_t floats = 2 * tiling.transposed_size() + 3 * tiling.row_size();
  return shape.batch * shape.kv_heads * floats * std::int64_t{sizeof(float)};
}

void attention_host_forward(const AttentionCall& call) {
  call.dtype == DType::float32 ? forward<float>(call) : forward<bf16>(call);
}

void attention_host_backward(const AttentionCall& call) {
  call.dtype == DType::float32 ? backward<float>(call) : backward<bf16>(call);
}

}  // namespace koios::detail
