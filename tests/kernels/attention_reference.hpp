// Causal grouped-query attention, with or without a mask of documents, in double precision by its
// definition, whole [T, T] matrices and plain loops. Legend: B sequences, T tokens of a sequence, H
// query heads, K key/value heads, E head size.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/attention.hpp"

namespace koios::reference {

/// Contiguous [B*T, heads*E] arrays; k and v have rows for the earlier keys too.
struct AttentionInput {
  AttentionShape shape;
  std::vector<double> q, k, v;
  std::vector<double> document_start_BT{};  // with shape.document_mask

  /// The keys that a query sees: from its document's first, or the sequence's, to its own.
  std::int64_t first_key(std::int64_t b, std::int64_t t) const {
    if (!shape.document_mask) return 0;
    return static_cast<std::int64_t>(document_start_BT[b * shape.seq_len + t]);
  }
  std::int64_t own_key(std::int64_t t) const { return shape.earlier_keys + t; }
  std::int64_t q_at(std::int64_t b, std::int64_t t, std::int64_t head) const {
    return ((b * shape.seq_len + t) * shape.heads + head) * shape.head_dim;
  }
  std::int64_t kv_at(std::int64_t b, std::int64_t t, std::int64_t head) const {
    const std::int64_t kv_head = head / (shape.heads / shape.kv_heads);
    return ((b * shape.kv_len() + t) * shape.kv_heads + kv_head) * shape.head_dim;
  }
};

struct AttentionOutput {
  std::vector<double> o, lse_BHT;
};

struct AttentionGradients {
  std::vector<double> dq, dk, dv;
};

inline double dot(const std::vector<double>& a, std::int64_t i, const std::vector<double>& b,
                  std::int64_t j, std::int64_t count) {
  double sum = 0;
  for (std::int64_t e = 0; e < count; ++e) sum += a[i + e] * b[j + e];
  return sum;
}

/// y[j ...] += factor * x[i ...]
inline void add_scaled(std::vector<double>& y, std::int64_t j, double factor,
                       const std::vector<double>& x, std::int64_t i, std::int64_t count) {
  for (std::int64_t e = 0; e < count; ++e) y[j + e] += factor * x[i + e];
}

/// Row t of the probability matrix, entries first_key ... own_key; returns log of the softmax's
/// denominator.
inline double probabilities(std::vector<double>& p, const AttentionInput& in, std::int64_t b,
                            std::int64_t t, std::int64_t head) {
  const std::int64_t head_dim = in.shape.head_dim;
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  double largest = -INFINITY;
  for (std::int64_t u = in.first_key(b, t); u <= in.own_key(t); ++u) {
    p[u] = scale * dot(in.q, in.q_at(b, t, head), in.k, in.kv_at(b, u, head), head_dim);
    largest = std::max(largest, p[u]);
  }
  double sum = 0;
  for (std::int64_t u = in.first_key(b, t); u <= in.own_key(t); ++u)
    sum += std::exp(p[u] - largest);
  const double lse = largest + std::log(sum);
  for (std::int64_t u = in.first_key(b, t); u <= in.own_key(t); ++u) p[u] = std::exp(p[u] - lse);
  return lse;
}

/// body(b, t, head) for every query.
template <class Body>
void for_each_query(const AttentionShape& shape, const Body& body) {
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      for (std::int64_t t = 0; t < shape.seq_len; ++t) body(b, t, head);
    }
  }
}

inline AttentionOutput attention(const AttentionInput& in) {
  const AttentionShape& s = in.shape;
  AttentionOutput out;
  out.o.assign(in.q.size(), 0.0);
  out.lse_BHT.assign(s.batch * s.heads * s.seq_len, 0.0);
  std::vector<double> p(s.kv_len());
  for_each_query(s, [&](std::int64_t b, std::int64_t t, std::int64_t head) {
    out.lse_BHT[(b * s.heads + head) * s.seq_len + t] = probabilities(p, in, b, t, head);
    for (std::int64_t u = in.first_key(b, t); u <= in.own_key(t); ++u) {
      add_scaled(out.o, in.q_at(b, t, head), p[u], in.v, in.kv_at(b, u, head), s.head_dim);
    }
  });
  return out;
}

/// From the definition: dp = do v^T, ds = p (dp - sum_u p dp), with o nowhere in it.
inline AttentionGradients attention_backward(const AttentionInput& in,
                                             const std::vector<double>& d_o) {
  const AttentionShape& s = in.shape;
  AttentionGradients g;
  g.dq.assign(in.q.size(), 0.0);
  g.dk.assign(in.k.size(), 0.0);
  g.dv.assign(in.v.size(), 0.0);
  const double scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  std::vector<double> p(s.kv_len()), dp(s.kv_len());
  for_each_query(s, [&](std::int64_t b, std::int64_t t, std::int64_t head) {
    probabilities(p, in, b, t, head);
    const std::int64_t query = in.q_at(b, t, head);
    double delta = 0;
    for (std::int64_t u = in.first_key(b, t); u <= in.own_key(t); ++u) {
      const std::int64_t key = in.kv_at(b, u, head);
      dp[u] = dot(d_o, query, in.v, key, s.head_dim);
      delta += p[u] * dp[u];
      add_scaled(g.dv, key, p[u], d_o, query, s.head_dim);
    }
    for (std::int64_t u = in.first_key(b, t); u <= in.own_key(t); ++u) {
      const std::int64_t key = in.kv_at(b, u, head);
      const double ds = scale * p[u] * (dp[u] - delta);
      add_scaled(g.dq, query, ds, in.k, key, s.head_dim);
      add_scaled(g.dk, key, ds, in.q, query, s.head_dim);
    }
  });
  return g;
}

}  // namespace koios::reference
