#include "kernels/attention.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "tests/kernels/attention_reference.hpp"
#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/scratch.hpp"

namespace koios {
namespace {

using test::DeviceMatrix;

// {B, T, H, K, E}: single tokens, odd lengths around the block sizes, every kind of head size
// (below, at and beyond a vector; not a multiple of one), grouped queries.
constexpr AttentionShape kShapes[] = {{2, 1, 2, 1, 6},    {1, 7, 4, 2, 16},   {2, 65, 2, 2, 16},
                                      {1, 130, 4, 1, 16}, {1, 65, 2, 1, 6},   {1, 130, 2, 2, 64},
                                      {1, 65, 3, 3, 96},  {2, 33, 4, 2, 128}, {1, 260, 1, 1, 128}};
// Queries at the end of longer sequences: as many, fewer and more than there are earlier keys, one
// alone, and whole blocks of both.
constexpr AttentionShape kEnds[] = {{1, 33, 2, 2, 16, false, 33},   {2, 65, 4, 2, 16, false, 7},
                                    {1, 7, 2, 1, 6, false, 130},    {1, 1, 2, 2, 64, false, 200},
                                    {1, 128, 4, 1, 16, false, 128}, {2, 64, 2, 1, 128, false, 192},
                                    {1, 50, 3, 3, 96, false, 150}};
constexpr std::int64_t kGap = 8;  // elements between the rows

/// Rounded to T, as the kernels see it.
template <class T>
reference::AttentionInput random_input(const AttentionShape& s) {
  const std::int64_t rows = s.batch * s.seq_len * s.head_dim;
  const std::int64_t kv_rows = s.batch * s.kv_len() * s.head_dim;
  return {s, test::random_values<T>(rows * s.heads, 1),
          test::random_values<T>(kv_rows * s.kv_heads, 2),
          test::random_values<T>(kv_rows * s.kv_heads, 3)};
}

/// Sequences of documents, of which most are short and some longer than a block of keys: where each
/// query's begins.
std::vector<double> random_documents(const AttentionShape& s, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<double> start;
  for (std::int64_t b = 0; b < s.batch; ++b) {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    for (std::int64_t t = 0; t < s.kv_len(); ++t) {
      if (t == end) {
        begin = t;
        end = t + 1 + static_cast<std::int64_t>(random() % (1U << random() % 8));
      }
      if (t >= s.earlier_keys) start.push_back(static_cast<double>(begin));
    }
  }
  return start;
}

double largest(const std::vector<double>& values) {
  double m = 0;
  for (const double v : values) m = std::max(m, std::abs(v));
  return m;
}

/// |got - expected| <= bound * scale
void expect_near(const char* what, const AttentionShape& s, const std::vector<double>& got,
                 const std::vector<double>& expected, double bound, double scale) {
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - expected[i]);
    worst = error <= worst ? worst : error;  // NaN stays
  }
  EXPECT_LE(worst, bound * scale) << what << ": error / scale = " << worst / scale << " for B "
                                  << s.batch << " T " << s.seq_len << " H " << s.heads << " K "
                                  << s.kv_heads << " E " << s.head_dim << " earlier keys "
                                  << s.earlier_keys;
}

/// Score gradients are differences of numbers as large as those that make up dv, and vanish with
/// one key: so all three gradients are measured by the largest of them.
void expect_gradients_near(const AttentionShape& s, const reference::AttentionGradients& got,
                           const reference::AttentionGradients& expected, double bound) {
  const double scale = std::max({largest(expected.dq), largest(expected.dk), largest(expected.dv)});
  expect_near("dq", s, got.dq, expected.dq, bound, scale);
  expect_near("dk", s, got.dk, expected.dk, bound, scale);
  expect_near("dv", s, got.dv, expected.dv, bound, scale);
}

/// From BHT to BTH.
std::vector<double> token_by_token(const std::vector<double>& lse_BHT, const AttentionShape& s) {
  std::vector<double> lse_BTH(lse_BHT.size());
  for (std::int64_t i = 0; i < std::ssize(lse_BHT); ++i) {
    const std::int64_t t = i % s.seq_len;
    const std::int64_t head = i / s.seq_len % s.heads;
    const std::int64_t b = i / s.seq_len / s.heads;
    lse_BTH[(b * s.seq_len + t) * s.heads + head] = lse_BHT[i];
  }
  return lse_BTH;
}

/// Everything one shape needs in the backend's memory.
template <class T>
struct Tensors {
  Tensors(Stream& s, const AttentionShape& shape)
      : q(s, rows(shape), shape.heads * shape.head_dim, kGap),
        k(s, kv_rows(shape), shape.kv_heads * shape.head_dim, kGap),
        v(s, kv_rows(shape), shape.kv_heads * shape.head_dim, kGap),
        o(s, rows(shape), shape.heads * shape.head_dim, 0),
        d_o(s, rows(shape), shape.heads * shape.head_dim, 0),
        dq(s, rows(shape), shape.heads * shape.head_dim, kGap),
        dk(s, kv_rows(shape), shape.kv_heads * shape.head_dim, kGap),
        dv(s, kv_rows(shape), shape.kv_heads * shape.head_dim, kGap),
        lse(s, 1, rows(shape) * shape.heads, 0),
        document_start(s, 1, shape.document_mask ? rows(shape) : 0, 0),
        document_begin(s, 1, shape.document_mask ? rows(shape) + 1 : 0, 0) {}

  static std::int64_t rows(const AttentionShape& s) { return s.batch * s.seq_len; }
  static std::int64_t kv_rows(const AttentionShape& s) { return s.batch * s.kv_len(); }
  Ref<float, 1> lse_BHT() const { return make_ref(lse.ref().data, lse.ref().extent[1]); }

  void write_documents(const AttentionShape& shape, const std::vector<double>& start) {
    document_start.write(start);
    std::vector<double> begins;
    for (std::int64_t row = 0; row < std::ssize(start); ++row) {
      if (row % shape.seq_len == 0 || start[row] != start[row - 1]) {
        begins.push_back(static_cast<double>(row));
      }
    }
    documents = std::ssize(begins);
    begins.resize(document_begin.ref().extent[1], static_cast<double>(rows(shape)));
    document_begin.write(begins);
  }
  Documents document_refs(const AttentionShape& shape) const {
    if (!shape.document_mask) return {};
    const auto start = make_ref(document_start.cref().data, document_start.ref().extent[1]);
    if (shape.earlier_keys > 0) return {start, {}};
    return {start, make_ref(document_begin.cref().data, documents + 1)};
  }

  DeviceMatrix<T> q, k, v, o, d_o, dq, dk, dv;
  DeviceMatrix<float> lse;
  DeviceMatrix<std::int32_t> document_start, document_begin;
  std::int64_t documents = 0;
};

template <class Case>
class Attention : public test::KernelTest<Case> {
 protected:
  using T = typename Case::T;

  void run(Tensors<T>& t, const reference::AttentionInput& in, const std::vector<double>& d_o,
           MathOptions options = {}) {
    if (Case::backend == Backend::cuda && in.shape.document_mask) {
      options.attention_workspace_bytes = ask_attention_workspace_bytes(
          options, in.shape, dtype_of<T>, {t.q.ref().pitch, t.k.ref().pitch, t.o.ref().pitch});
    }
    MathHandles math(Case::backend, options, gemm_workspace_.ref());
    // No byte more than promised, and nothing in it that could pass for zeros.
    const std::int64_t bytes =
        attention_workspace_bytes(Case::backend, options, in.shape, sizeof(T));
    const std::int64_t floats = bytes / std::int64_t{sizeof(float)};
    test::Scratch workspace(Case::backend, bytes);
    std::vector<float> poison(floats, std::nanf(""));
    copy(this->stream, {workspace.ref().data, floats, DType::float32},
         {poison.data(), floats, DType::float32});
    t.q.write(in.q);
    t.k.write(in.k);
    t.v.write(in.v);
    t.d_o.write(d_o);
    t.write_documents(in.shape, in.document_start_BT);
    const Documents documents = t.document_refs(in.shape);
    attention_forward(math, this->stream, in.shape, t.o.ref(), t.lse_BHT(), t.q.cref(), t.k.cref(),
                      t.v.cref(), workspace.ref(), documents);
    attention_backward(math, this->stream, in.shape, t.dq.ref(), t.dk.ref(), t.dv.ref(),
                       t.d_o.cref(), t.o.cref(), Ref<const float, 1>(t.lse_BHT()), t.q.cref(),
                       t.k.cref(), t.v.cref(), workspace.ref(), documents);
    this->stream.synchronize();
  }

  void compare(const reference::AttentionInput& in, const MathOptions& options) {
    const AttentionShape& shape = in.shape;
    const auto d_o = test::random_values<T>(std::ssize(in.q), 4);
    Tensors<T> t(this->stream, shape);
    run(t, in, d_o, options);
    const auto out = reference::attention(in);
    const auto grad = reference::attention_backward(in, d_o);
    expect_near("o", shape, t.o.read(), out.o, kBound, largest(out.o));
    // lse is float32 in every case, of scores that are float32 sums.
    const auto lse =
        goes_by_document(shape, options) ? token_by_token(out.lse_BHT, shape) : out.lse_BHT;
    expect_near("lse", shape, t.lse.read(), lse, 16 * test::unit_roundoff<float>, largest(lse));
    expect_gradients_near(shape, {t.dq.read(), t.dk.read(), t.dv.read()}, grad, kBound);
  }

  /// Whether cuDNN does it, document by document.
  static bool goes_by_document(const AttentionShape& shape, const MathOptions& options) {
    return Case::backend == Backend::cuda && shape.document_mask &&
           options.attention != AttentionKind::fallback &&
           why_fallback_attention(options, shape, dtype_of<T>).empty();
  }

  void compare(const MathOptions& options) {
    for (const auto& shape : kShapes) compare(random_input<T>(shape), options);
    for (const auto& shape : kEnds) compare(random_input<T>(shape), options);
  }

  // float: scores of size up to 5 with errors of a few u make probabilities wrong by 16 u or so,
  // and their sums by less. bf16: the output's rounding alone on the host; where probabilities and
  // their gradients are rounded too before they are multiplied (cuDNN, fallback), and o before it
  // gives delta, 3 roundings of the largest kind.
  static constexpr double kBound = (std::is_same_v<T, float> ? 32 : 3) * test::unit_roundoff<T>;

  test::Scratch gemm_workspace_{Case::backend, MathHandles::gemm_workspace_bytes(Case::backend)};
};
TYPED_TEST_SUITE(Attention, test::Cases, test::CaseName);

TYPED_TEST(Attention, MatchesReference) { this->compare({}); }

TYPED_TEST(Attention, DeterministicMatchesReferenceAndRepeats) {
  using T = typename TypeParam::T;
  const MathOptions options{.deterministic = true};
  this->compare(options);
  const AttentionShape shape{2, 130, 4, 2, 64};
  const auto in = random_input<T>(shape);
  const auto d_o = test::random_values<T>(std::ssize(in.q), 4);
  Tensors<T> first(this->stream, shape), second(this->stream, shape);
  this->run(first, in, d_o, options);
  this->run(second, in, d_o, options);
  EXPECT_EQ(first.o.read(), second.o.read());
  EXPECT_EQ(first.dq.read(), second.dq.read());
  EXPECT_EQ(first.dk.read(), second.dk.read());
  EXPECT_EQ(first.dv.read(), second.dv.read());
}

TYPED_TEST(Attention, FallbackMatchesReference) {
  this->compare({.attention = AttentionKind::fallback});
}

TYPED_TEST(Attention, MaskOfDocumentsMatchesReference) {
  using T = typename TypeParam::T;
  std::vector<AttentionShape> shapes(std::begin(kShapes), std::end(kShapes));
  shapes.insert(shapes.end(), std::begin(kEnds), std::end(kEnds));
  for (AttentionShape shape : shapes) {
    shape.document_mask = true;
    auto in = random_input<T>(shape);
    for (const std::uint32_t seed : {1U, 2U, 3U}) {
      in.document_start_BT = random_documents(shape, seed);
      this->compare(in, {});
    }
  }
}

// Documents of many tiles, more of them than one plan is for, and none but one.
TYPED_TEST(Attention, LongDocumentsAgreeWithTheFallback) {
  using T = typename TypeParam::T;
  AttentionShape shape{2, 4096, 4, 4, 128};
  shape.document_mask = true;
  if (!this->goes_by_document(shape, {})) GTEST_SKIP() << "the fallback itself";
  for (const std::int64_t kv_heads : {4, 2}) {
    shape.kv_heads = kv_heads;
    auto in = random_input<T>(shape);
    const auto d_o = test::random_values<T>(std::ssize(in.q), 4);
    for (const std::int64_t mean : {3, 100, 500, 2000, 1 << 20}) {
      std::mt19937 random(static_cast<std::uint32_t>(mean));
      in.document_start_BT.clear();
      for (std::int64_t i = 0; i < shape.batch * shape.seq_len; ++i) {
        const std::int64_t t = i % shape.seq_len;
        const bool begins = t == 0 || static_cast<std::int64_t>(random()) % mean == 0;
        in.document_start_BT.push_back(begins ? static_cast<double>(t)
                                              : in.document_start_BT.back());
      }
      Tensors<T> fused(this->stream, shape), fallback(this->stream, shape);
      this->run(fused, in, d_o);
      this->run(fallback, in, d_o, {.attention = AttentionKind::fallback});
      const auto o = fallback.o.read();
      SCOPED_TRACE(cat(fused.documents, " documents"));
      expect_near("o", shape, fused.o.read(), o, 2 * this->kBound, largest(o));
      expect_gradients_near(shape, {fused.dq.read(), fused.dk.read(), fused.dv.read()},
                            {fallback.dq.read(), fallback.dk.read(), fallback.dv.read()},
                            2 * this->kBound);
    }
  }
}

// What one document has in it must not show in another, were it as large as it can be.
TYPED_TEST(Attention, MaskKeepsDocumentsApart) {
  using T = typename TypeParam::T;
  AttentionShape shape{1, 260, 2, 1, 16};
  shape.document_mask = true;
  auto in = random_input<T>(shape);
  // Of the second document, which is of two tiles: of two sums the order does not show.
  const std::int64_t begin = 133;
  for (std::int64_t t = 0; t < shape.seq_len; ++t) {
    in.document_start_BT.push_back(t < begin ? 0.0 : static_cast<double>(begin));
  }
  const auto d_o = test::random_values<T>(std::ssize(in.q), 4);
  Tensors<T> before(this->stream, shape), after(this->stream, shape);
  this->run(before, in, d_o);
  for (auto* values : {&in.k, &in.v}) std::fill_n(values->begin(), begin * shape.head_dim, 1e30);
  this->run(after, in, d_o);
  const auto tail = [&](const std::vector<double>& values) {
    const std::int64_t row = std::ssize(values) / shape.seq_len;
    return std::vector<double>(values.begin() + begin * row, values.end());
  };
  EXPECT_EQ(tail(before.o.read()), tail(after.o.read()));
  EXPECT_EQ(tail(before.dq.read()), tail(after.dq.read()));
  EXPECT_EQ(tail(before.dk.read()), tail(after.dk.read()));
  EXPECT_EQ(tail(before.dv.read()), tail(after.dv.read()));
}

// A step with NaN in it is skipped or stops the run, as the deck says: attention must not turn NaN,
// or scores too large for float32, into numbers. (cuDNN's ways are its own.)
TYPED_TEST(Attention, WhatIsNotANumberShows) {
  using T = typename TypeParam::T;
  const AttentionShape shape{1, 70, 2, 1, 16};
  const auto d_o = test::random_values<T>(shape.seq_len * shape.heads * shape.head_dim, 4);
  for (const double bad : {std::nan(""), 1e38}) {
    auto in = random_input<T>(shape);
    const std::int64_t row = 40;  // of the first head
    std::fill_n(in.q.begin() + row * shape.heads * shape.head_dim, shape.head_dim, bad);
    std::fill_n(in.k.begin() + 3 * shape.head_dim, shape.head_dim, 100.0);  // 1e38 overflows
    Tensors<T> t(this->stream, shape);
    this->run(t, in, d_o, {.attention = AttentionKind::fallback});
    const auto o = t.o.read();
    const auto dq = t.dq.read();
    for (std::int64_t i = 0; i < std::ssize(o); ++i) {
      const bool is_hit = i / shape.head_dim == row * shape.heads;
      ASSERT_EQ(std::isnan(o[i]), is_hit) << bad << " element " << i;
      ASSERT_TRUE(!is_hit || std::isnan(dq[i])) << bad << " element " << i;
    }
  }
}

// Scores far apart: probabilities that underflow, and maxima that rise from key block to key block.
TYPED_TEST(Attention, LargeScoresStayFinite) {
  using T = typename TypeParam::T;
  const AttentionShape shape{1, 200, 1, 1, 16};
  auto in = random_input<T>(shape);
  for (std::int64_t t = 0; t < shape.seq_len; ++t) {
    for (std::int64_t e = 0; e < shape.head_dim; ++e) {
      in.k[t * shape.head_dim + e] = e == 0 ? static_cast<double>(t) : 0.0;
      in.q[t * shape.head_dim + e] = e == 0 ? (t % 2 == 0 ? 8.0 : -8.0) : 0.0;
    }
  }
  const auto d_o = test::random_values<T>(std::ssize(in.q), 4);
  Tensors<T> t(this->stream, shape);
  this->run(t, in, d_o);
  const auto out = reference::attention(in);
  const auto grad = reference::attention_backward(in, d_o);
  // Scores up to 400 carry errors of 400 u, which pass into the probabilities as they are.
  const double bound = this->kBound + 1024 * test::unit_roundoff<float>;
  expect_near("o", shape, t.o.read(), out.o, bound, largest(out.o));
  expect_near("dv", shape, t.dv.read(), grad.dv, bound, largest(grad.dv));
  expect_near("dk", shape, t.dk.read(), grad.dk, bound, largest(grad.dk));
  // The terms of dq cancel: keys of size 200 multiply an error of o's rounding.
  for (const double x : t.dq.read()) ASSERT_TRUE(std::isfinite(x));
}

void expect_finite_differences(bool masked, std::int64_t earlier_keys = 0) {
  AttentionShape shape{1, 5, 4, 2, 6};
  shape.document_mask = masked;
  shape.earlier_keys = earlier_keys;
  auto in = random_input<float>(shape);
  if (masked) in.document_start_BT = {0, 0, 2, 2, 2};
  const auto d_o = test::random_values<float>(std::ssize(in.q), 4);
  const auto grad = reference::attention_backward(in, d_o);
  using Checked = std::pair<std::vector<double>*, const std::vector<double>*>;
  for (const auto& [values, gradient] :
       {Checked{&in.q, &grad.dq}, Checked{&in.k, &grad.dk}, Checked{&in.v, &grad.dv}}) {
    const auto original = *values;
    test::expect_gradient(
        [&](const std::vector<double>& x) {
          *values = x;
          return test::dot(reference::attention(in).o, d_o);
        },
        original, *gradient, 1.0);
    *values = original;
  }
}

TEST(AttentionReference, BackwardMatchesFiniteDifferences) { expect_finite_differences(false); }
TEST(AttentionReference, MaskedBackwardMatchesFiniteDifferences) {
  expect_finite_differences(true);
}
TEST(AttentionReference, BackwardWithEarlierKeysMatchesFiniteDifferences) {
  expect_finite_differences(false, 3);
}

}  // namespace
}  // namespace koios
