// Every kernel again as plain loops in double: the truth that the tests compare with. Backward
// passes are themselves checked against finite differences of the forward passes.
// Matrices are row-major without gaps; legends as in the kernels' headers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/compare.hpp"

namespace koios::reference {

using test::Expected;
using Values = std::vector<double>;

struct RmsNorm {
  Values y, rstd;
};

inline RmsNorm rmsnorm(const Values& x, const Values& w, double eps) {
  const std::size_t D = w.size(), N = x.size() / D;
  RmsNorm r{Values(x.size()), Values(N)};
  for (std::size_t n = 0; n < N; ++n) {
    double squares = 0;
    for (std::size_t i = 0; i < D; ++i) squares += x[n * D + i] * x[n * D + i];
    r.rstd[n] = 1 / std::sqrt(squares / D + eps);
    for (std::size_t i = 0; i < D; ++i) r.y[n * D + i] = x[n * D + i] * r.rstd[n] * w[i];
  }
  return r;
}

struct RmsNormGradient {
  Expected dx, dw;
};

inline RmsNormGradient rmsnorm_backward(const Values& dy, const Values& x, const Values& w,
                                        double eps) {
  const std::size_t D = w.size(), N = x.size() / D;
  const Values rstd = rmsnorm(x, w, eps).rstd;
  RmsNormGradient g{Expected(x.size()), Expected(D)};
  for (std::size_t n = 0; n < N; ++n) {
    const double r = rstd[n];
    double mean = 0, mean_terms = 0;
    for (std::size_t i = 0; i < D; ++i) {
      const std::size_t k = n * D + i;
      mean += dy[k] * w[i] * x[k] / D;
      mean_terms += std::abs(dy[k] * w[i] * x[k]) / D;
      g.dw.value[i] += dy[k] * x[k] * r;
      g.dw.terms[i] += std::abs(dy[k] * x[k] * r);
    }
    for (std::size_t i = 0; i < D; ++i) {
      const std::size_t k = n * D + i;
      g.dx.value[k] = r * dy[k] * w[i] - x[k] * r * r * r * mean;
      g.dx.terms[k] = std::abs(r * dy[k] * w[i]) + std::abs(x[k] * r * r * r) * mean_terms;
    }
  }
  return g;
}

struct LayerNorm {
  Expected y, mean;
  Values rstd;
};

/// Without bias.
inline LayerNorm layernorm(const Values& x, const Values& w, double eps) {
  const std::size_t D = w.size(), N = x.size() / D;
  LayerNorm r{Expected(x.size()), Expected(N), Values(N)};
  for (std::size_t n = 0; n < N; ++n) {
    const double* row = x.data() + n * D;
    for (std::size_t i = 0; i < D; ++i) {
      r.mean.value[n] += row[i] / D;
      r.mean.terms[n] += std::abs(row[i]) / D;
    }
    double squares = 0;
    for (std::size_t i = 0; i < D; ++i) squares += std::pow(row[i] - r.mean.value[n], 2);
    r.rstd[n] = 1 / std::sqrt(squares / D + eps);
    for (std::size_t i = 0; i < D; ++i) {
      const double scale = r.rstd[n] * w[i];
      r.y.value[n * D + i] = (row[i] - r.mean.value[n]) * scale;
      r.y.terms[n * D + i] = (std::abs(row[i]) + r.mean.terms[n]) * std::abs(scale);
    }
  }
  return r;
}

inline RmsNormGradient layernorm_backward(const Values& dy, const Values& x, const Values& w,
                                          double eps) {
  const std::size_t D = w.size(), N = x.size() / D;
  const LayerNorm forward = layernorm(x, w, eps);
  RmsNormGradient g{Expected(x.size()), Expected(D)};
  for (std::size_t n = 0; n < N; ++n) {
    const double r = forward.rstd[n], m = forward.mean.value[n], m_terms = forward.mean.terms[n];
    double g_mean = 0, g_terms = 0, dot = 0, dot_terms = 0;
    for (std::size_t i = 0; i < D; ++i) {
      const std::size_t k = n * D + i;
      const double gi = dy[k] * w[i], xc = x[k] - m, xc_terms = std::abs(x[k]) + m_terms;
      g_mean += gi / D;
      g_terms += std::abs(gi) / D;
      dot += gi * xc / D;
      dot_terms += std::abs(gi) * xc_terms / D;
      g.dw.value[i] += dy[k] * xc * r;
      g.dw.terms[i] += std::abs(dy[k] * r) * xc_terms;
    }
    for (std::size_t i = 0; i < D; ++i) {
      const std::size_t k = n * D + i;
      g.dx.value[k] = r * (dy[k] * w[i] - g_mean) - (x[k] - m) * r * r * r * dot;
      g.dx.terms[k] = r * (std::abs(dy[k] * w[i]) + g_terms) +
                      (std::abs(x[k]) + m_terms) * r * r * r * dot_terms;
    }
  }
  return g;
}

/// angle[t][i] = cos, sin of t * theta^(-i/E) for even i.
inline Values rope_table(std::int64_t T, std::int64_t E, double theta) {
  Values table(T * E);
  for (std::int64_t t = 0; t < T; ++t) {
    for (std::int64_t i = 0; i < E; i += 2) {
      const double angle = static_cast<double>(t) * std::pow(theta, -static_cast<double>(i) / E);
      table[t * E + i] = std::cos(angle);
      table[t * E + i + 1] = std::sin(angle);
    }
  }
  return table;
}

/// direction 1 turns forward, -1 back.
inline Expected rope(const Values& x, const Values& table, std::int64_t row_size, std::int64_t T,
                     std::int64_t E, double direction) {
  Expected y(x.size());
  for (std::size_t k = 0; k < x.size(); k += 2) {
    const std::int64_t n = static_cast<std::int64_t>(k) / row_size;
    const std::int64_t i = static_cast<std::int64_t>(k) % row_size % E;
    const double c = table[(n % T) * E + i], s = direction * table[(n % T) * E + i + 1];
    y.value[k] = x[k] * c - x[k + 1] * s;
    y.value[k + 1] = x[k] * s + x[k + 1] * c;
    y.terms[k] = std::abs(x[k] * c) + std::abs(x[k + 1] * s);
    y.terms[k + 1] = std::abs(x[k] * s) + std::abs(x[k + 1] * c);
  }
  return y;
}

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

inline Values swiglu(const Values& gate_up, std::size_t F) {
  const std::size_t N = gate_up.size() / (2 * F);
  Values y(N * F);
  for (std::size_t n = 0; n < N; ++n) {
    for (std::size_t i = 0; i < F; ++i) {
      const double gate = gate_up[n * 2 * F + i], up = gate_up[n * 2 * F + F + i];
      y[n * F + i] = gate * sigmoid(gate) * up;
    }
  }
  return y;
}

inline Expected swiglu_backward(const Values& dy, const Values& gate_up, std::size_t F) {
  const std::size_t N = dy.size() / F;
  Expected d(gate_up.size());
  for (std::size_t n = 0; n < N; ++n) {
    for (std::size_t i = 0; i < F; ++i) {
      const std::size_t g = n * 2 * F + i, u = g + F;
      const double gate = gate_up[g], up = gate_up[u], s = sigmoid(gate), dyi = dy[n * F + i];
      d.value[g] = dyi * up * s * (1 + gate * (1 - s));
      d.terms[g] = std::abs(dyi * up) * (s + 2 * std::abs(gate) * s);
      d.value[u] = dyi * gate * s;
      d.terms[u] = std::abs(d.value[u]);
    }
  }
  return d;
}

struct CrossEntropy {
  Expected loss, gradient;
};

/// gradient: of scale * (sum of the losses). A row whose label is -1 does not count.
inline CrossEntropy cross_entropy(const Values& logits, const std::vector<int>& label,
                                  double scale) {
  const std::size_t N = label.size(), V = logits.size() / N;
  CrossEntropy c{Expected(N), Expected(logits.size())};
  for (std::size_t n = 0; n < N; ++n) {
    if (label[n] < 0) continue;
    const double* row = logits.data() + n * V;
    const double max = *std::max_element(row, row + V);
    double sum = 0;
    for (std::size_t i = 0; i < V; ++i) sum += std::exp(row[i] - max);
    c.loss.value[n] = std::log(sum) + max - row[label[n]];
    c.loss.terms[n] = std::log(sum) + 1 + std::abs(max) + std::abs(row[label[n]]);
    for (std::size_t i = 0; i < V; ++i) {
      const double p = std::exp(row[i] - max) / sum;
      const double hot = static_cast<int>(i) == label[n] ? 1 : 0;
      c.gradient.value[n * V + i] = (p - hot) * scale;
      // The argument row[i] - max is rounded, which the exponential magnifies by its size.
      c.gradient.terms[n * V + i] = (p * (1 + std::abs(row[i] - max)) + hot) * std::abs(scale);
    }
  }
  return c;
}

struct Adam {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;
  double bias_correction1, bias_correction2;
};

inline void adam_update(const Adam& a, double scale, const Values& gradient, Values& p, Values& m,
                        Values& v) {
  for (std::size_t i = 0; i < p.size(); ++i) {
    double g = gradient[i] * scale;
    if (!a.decoupled) g += a.weight_decay * p[i];
    if (a.decoupled) p[i] -= a.lr * a.weight_decay * p[i];
    m[i] = a.beta1 * m[i] + (1 - a.beta1) * g;
    v[i] = a.beta2 * v[i] + (1 - a.beta2) * g * g;
    p[i] -= a.lr * (m[i] / a.bias_correction1) / (std::sqrt(v[i] / a.bias_correction2) + a.eps);
  }
}

}  // namespace koios::reference
