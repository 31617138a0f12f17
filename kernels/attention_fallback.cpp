#include "kernels/detail/attention_fallback.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/detail/attention_plan.hpp"
#include "kernels/detail/attention_softmax.hpp"

namespace koios::detail {
namespace {

/// `count` heads of one sequence that go through each product together.
struct HeadRange {
  std::int64_t b;
  std::int64_t first_kv;
  std::int64_t count;
};

class Fallback {
 public:
  Fallback(GemmCublasLt& gemms, Stream& stream, const AttentionCall& call)
      : gemms_(gemms),
        stream_(stream),
        call_(call),
        shape_(call.shape),
        tiling_(call.shape, size_of(call.dtype)),
        group_(shape_.heads / shape_.kv_heads),
        scale_(1 / std::sqrt(static_cast<float>(shape_.head_dim))) {}

  void forward() {
    for_each_range([&](const HeadRange& range) {
      for (std::int64_t member = 0; member < group_; ++member) {
        for_each_chunk([&](std::int64_t first, std::int64_t queries) {
          forward_chunk(range, member, first, queries);
        });
      }
    });
  }

  void backward() {
    for_each_range([&](const HeadRange& range) {
      for (std::int64_t member = 0; member < group_; ++member) {
        // The last chunk comes first: it sees all keys, so it writes dk and dv, and the others add.
        bool add = member > 0;
        for_each_chunk([&](std::int64_t first, std::int64_t queries) {
          backward_chunk(range, member, first, queries, add);
          add = true;
        });
      }
      if (call_.dtype == DType::bfloat16) {
        store_gradient(call_.dk, tiling_.dk, range);
        store_gradient(call_.dv, tiling_.dv, range);
      }
    });
  }

 private:
  template <class Body>
  void for_each_range(const Body& body) {
    for (std::int64_t b = 0; b < shape_.batch; ++b) {
      for (std::int64_t kv = 0; kv < shape_.kv_heads; kv += tiling_.kv_heads) {
        body(HeadRange{b, kv, std::min(tiling_.kv_heads, shape_.kv_heads - kv)});
      }
    }
  }

  template <class Body>
  void for_each_chunk(const Body& body) {
    const std::int64_t last = (shape_.seq_len - 1) / tiling_.queries * tiling_.queries;
    for (std::int64_t first = last; first >= 0; first -= tiling_.queries) {
      body(first, std::min(tiling_.queries, shape_.seq_len - first));
    }
  }

  std::byte* at(std::int64_t offset) const { return call_.workspace.data + offset; }
  float* scores() const { return reinterpret_cast<float*>(at(tiling_.scores)); }
  float* score_gradients() const { return reinterpret_cast<float*>(at(tiling_.score_gradients)); }
  /// In the tensors' type: float in place, bf16 beside.
  void* probabilities() const {
    return at(call_.dtype == DType::float32 ? tiling_.scores : tiling_.probabilities);
  }
  void* score_gradients_out() const {
    if (call_.dtype == DType::float32) return at(tiling_.score_gradients);
    const std::int64_t matrix = tiling_.kv_heads * tiling_.queries * tiling_.pitch;
    return at(tiling_.probabilities + matrix * size_of(call_.dtype));
  }

  /// Rows [first, first + rows) of a query head of each group, or of each key/value head.
  Gemm::Operand query_rows(const Matrix& m, const HeadRange& range, std::int64_t member,
                           std::int64_t first, std::int64_t rows) const {
    const std::int64_t head = range.first_kv * group_ + member;
    return rows_of(m, range.b * shape_.seq_len + first, rows, head, group_);
  }
  Gemm::Operand kv_rows(const Matrix& m, const HeadRange& range, std::int64_t rows) const {
    return rows_of(m, range.b * shape_.kv_len(), rows, range.first_kv, 1);
  }
  Gemm::Operand rows_of(const Matrix& m, std::int64_t first, std::int64_t rows, std::int64_t head,
                        std::int64_t head_step) const {
    const std::int64_t offset = first * m.pitch + head * shape_.head_dim;
    const auto* data = static_cast<const std::byte*>(m.data) + offset * size_of(m.dtype);
    return {.matrix = {data, rows, shape_.head_dim, m.pitch, m.dtype},
            .stride = head_step * shape_.head_dim};
  }
  /// A [queries, keys] matrix of each head in the workspace.
  Gemm::Operand score_matrix(void* data, DType dtype, std::int64_t queries,
                             std::int64_t keys) const {
    return {.matrix = {data, queries, keys, tiling_.pitch, dtype},
            .stride = queries * tiling_.pitch};
  }
  /// Where dk or dv of the range are added up: the output itself, or float32 beside it.
  Gemm::Operand gradient_rows(const Matrix& output, std::int64_t sums, const HeadRange& range,
                              std::int64_t rows) const {
    if (call_.dtype == DType::float32) return kv_rows(output, range, rows);
    return {.matrix = {at(sums), rows, shape_.head_dim, shape_.head_dim, DType::float32},
            .stride = shape_.kv_len() * shape_.head_dim};
  }

  static Gemm::Operand transposed(Gemm::Operand operand) {
    operand.transposed = true;
    return operand;
  }

  void multiply(const HeadRange& range, const Gemm::Operand& c, const Gemm::Operand& a,
                const Gemm::Operand& b, float scale = 1, bool accumulate = false) {
    gemms_.run(stream_, {.a = a,
                         .b = b,
                         .c = c,
                         .accumulate = accumulate,
                         .scale = scale,
                         .batch = range.count,
                         .tune = false});
  }

  /// Of the chunk of queries: the last of them sees this many.
  std::int64_t visible_keys(std::int64_t first, std::int64_t queries) const {
    return shape_.earlier_keys + first + queries;
  }

  ScoreBlock block(const HeadRange& range, std::int64_t first, std::int64_t queries) const {
    return {
        range.count,
        queries,
        visible_keys(first, queries),
        tiling_.pitch,
        first,
        shape_.earlier_keys,
        shape_.document_mask ? call_.documents.start_BT.data + range.b * shape_.seq_len : nullptr};
  }
  LseRows lse(const HeadRange& range, std::int64_t member) const {
    const std::int64_t head = range.b * shape_.heads + range.first_kv * group_ + member;
    return {call_.lse_BHT + head * shape_.seq_len, group_ * shape_.seq_len};
  }

  /// scores = q k^T / sqrt(E)
  void compute_scores(const HeadRange& range, std::int64_t member, std::int64_t first,
                      std::int64_t queries) {
    const std::int64_t keys = visible_keys(first, queries);
    multiply(range, score_matrix(scores(), DType::float32, queries, keys),
             query_rows(call_.q, range, member, first, queries),
             transposed(kv_rows(call_.k, range, keys)), scale_);
  }

  void forward_chunk(const HeadRange& range, std::int64_t member, std::int64_t first,
                     std::int64_t queries) {
    const std::int64_t keys = visible_keys(first, queries);
    compute_scores(range, member, first, queries);
    with_type([&]<class T>(T*) {
      softmax_scores(stream_, block(range, first, queries), static_cast<T*>(probabilities()),
                     lse(range, member), scores());
    });
    multiply(range, query_rows(call_.o, range, member, first, queries),
             score_matrix(probabilities(), call_.dtype, queries, keys),
             kv_rows(call_.v, range, keys));
  }

  void backward_chunk(const HeadRange& range, std::int64_t member, std::int64_t first,
                      std::int64_t queries, bool add) {
    const std::int64_t keys = visible_keys(first, queries);
    const auto q = query_rows(call_.q, range, member, first, queries);
    const auto d_o = query_rows(call_.d_o, range, member, first, queries);
    compute_scores(range, member, first, queries);
    multiply(range, score_matrix(score_gradients(), DType::float32, queries, keys), d_o,
             transposed(kv_rows(call_.v, range, keys)));
    with_type([&]<class T>(T*) {
      softmax_scores_backward(stream_, block(range, first, queries),
                              static_cast<T*>(probabilities()),
                              static_cast<T*>(score_gradients_out()), lse(range, member), scores(),
                              score_gradients(), scale_);
    });
    const auto p = score_matrix(probabilities(), call_.dtype, queries, keys);
    const auto ds = score_matrix(score_gradients_out(), call_.dtype, queries, keys);
    multiply(range, gradient_rows(call_.dv, tiling_.dv, range, keys), transposed(p), d_o, 1, add);
    multiply(range, gradient_rows(call_.dk, tiling_.dk, range, keys), transposed(ds), q, 1, add);
    multiply(range, query_rows(call_.dq, range, member, first, queries), ds,
             kv_rows(call_.k, range, keys));
  }

  void store_gradient(const Matrix& output, std::int64_t sums, const HeadRange& range) {
    const auto rows = kv_rows(output, range, shape_.kv_len());
    store_heads(stream_, static_cast<bf16*>(const_cast<void*>(rows.matrix.data)), output.pitch,
                reinterpret_cast<const float*>(at(sums)), range.count, shape_.kv_len(),
                shape_.head_dim);
  }

  template <class Body>
  void with_type(const Body& body) {
    if (call_.dtype == DType::float32) {
      body(static_cast<float*>(nullptr));
    } else {
      body(static_cast<bf16*>(nullptr));
    }
  }

  GemmCublasLt& gemms_;
  Stream& stream_;
  const AttentionCall& call_;
  AttentionShape shape_;
  FallbackTiling tiling_;
  std::int64_t group_;
  float scale_;
};

}  // namespace

void attention_fallback_forward(GemmCublasLt& gemms, Stream& stream, const AttentionCall& call) {
  Fallback(gemms, stream, call).forward();
}

void attention_fallback_backward(GemmCublasLt& gemms, Stream& stream, const AttentionCall& call) {
  Fallback(gemms, stream, call).backward();
}

}  // namespace koios::detail
