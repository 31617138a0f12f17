#include "kernels/gemm.hpp"

#include <gtest/gtest.h>

#include "core/integers.hpp"
#include "kernels/fp8.hpp"
#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/scratch.hpp"

namespace koios {
namespace {

using test::DeviceMatrix;

struct Dims {
  std::int64_t N, I, O;
};
// Single rows and columns, odd sizes, more than one block of the host's bf16 outputs (512) and more
// than it packs at once (2048 terms, 1024 columns), and on CUDA one product that is large enough to
// have its algorithms timed (1e8 flop).
constexpr Dims kDims[] = {{1, 1, 1},      {1, 6, 3},      {7, 16, 5},      {65, 130, 33},
                          {130, 96, 130}, {600, 520, 24}, {520, 520, 200}, {2060, 1030, 9}};
constexpr std::int64_t kGap = 6;      // elements between the rows
constexpr std::int64_t kFp8Gap = 16;  // on CUDA rows of 8-bit products begin at 16 bytes

/// a(i, l) and b(l, j) give the operands; start is what the output held.
template <class A, class B>
test::Expected multiply(std::int64_t rows, std::int64_t columns, std::int64_t depth, const A& a,
                        const B& b, const std::vector<double>& start) {
  test::Expected e(start.size());
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      double sum = start[i * columns + j];
      double magnitude = std::abs(sum);
      for (std::int64_t l = 0; l < depth; ++l) {
        sum += a(i, l) * b(l, j);
        magnitude += std::abs(a(i, l) * b(l, j));
      }
      e.value[i * columns + j] = sum;
      e.terms[i * columns + j] = magnitude;
    }
  }
  return e;
}

template <class Case>
class Gemm : public test::KernelTest<Case> {
 protected:
  /// Runs `call` with the operands of `dims`, overwriting and accumulating, and compares.
  template <class Out, class Call, class Reference>
  void check(std::int64_t out_rows, std::int64_t out_columns, std::int64_t depth, const Call& call,
             const Reference& reference, std::int64_t gap = kGap, double least_steps = 0) {
    // A float32 sum of n terms errs by at most n u sum|terms|, in whatever order.
    const double steps = std::max(static_cast<double>(depth) + 1, least_steps);
    DeviceMatrix<Out> out(this->stream, out_rows, out_columns, gap);
    call(out.ref(), Write::overwrite);
    const std::vector<double> zero(out_rows * out_columns);
    test::expect_close<Out>(out.read(), reference(zero), steps);

    const auto start = test::random_values<Out>(out_rows * out_columns, 4);
    out.write(start);
    call(out.ref(), Write::accumulate);
    const auto once = out.read();
    test::expect_close<Out>(once, reference(start), steps);

    out.write(start);
    call(out.ref(), Write::accumulate);
    EXPECT_EQ(once, out.read()) << "not reproducible";
  }

  test::Scratch workspace_{Case::backend, MathHandles::gemm_workspace_bytes(Case::backend)};
  MathHandles math_{Case::backend, {}, workspace_.ref()};
};
TYPED_TEST_SUITE(Gemm, test::Cases, test::CaseName);

TYPED_TEST(Gemm, ForwardMatchesReference) {
  using T = typename TypeParam::T;
  for (const auto [N, I, O] : kDims) {
    const auto x = test::random_values<T>(N * I, 1);
    const auto w = test::random_values<T>(O * I, 2);
    DeviceMatrix<T> x_NI(this->stream, N, I, kGap), w_OI(this->stream, O, I, 0);
    x_NI.write(x);
    w_OI.write(w);
    this->template check<T>(
        N, O, I,
        [&](Ref<T, 2> y_NO, Write write) {
          linear_forward(this->math_, this->stream, y_NO, x_NI.cref(), w_OI.cref(), write);
        },
        [&, I = I, N = N, O = O](const std::vector<double>& start) {
          return multiply(
              N, O, I, [&](auto n, auto l) { return x[n * I + l]; },
              [&](auto l, auto o) { return w[o * I + l]; }, start);
        });
  }
}

TYPED_TEST(Gemm, BackwardInputMatchesReference) {
  using T = typename TypeParam::T;
  for (const auto [N, I, O] : kDims) {
    const auto dy = test::random_values<T>(N * O, 1);
    const auto w = test::random_values<T>(O * I, 2);
    DeviceMatrix<T> dy_NO(this->stream, N, O, kGap), w_OI(this->stream, O, I, 0);
    dy_NO.write(dy);
    w_OI.write(w);
    this->template check<T>(
        N, I, O,
        [&](Ref<T, 2> dx_NI, Write write) {
          linear_backward_input(this->math_, this->stream, dx_NI, dy_NO.cref(), w_OI.cref(), write);
        },
        [&, I = I, N = N, O = O](const std::vector<double>& start) {
          return multiply(
              N, I, O, [&](auto n, auto l) { return dy[n * O + l]; },
              [&](auto l, auto i) { return w[l * I + i]; }, start);
        });
  }
}

TYPED_TEST(Gemm, BackwardWeightMatchesReference) {
  using T = typename TypeParam::T;
  for (const auto [N, I, O] : kDims) {
    const auto dy = test::random_values<T>(N * O, 1);
    const auto x = test::random_values<T>(N * I, 2);
    DeviceMatrix<T> dy_NO(this->stream, N, O, kGap), x_NI(this->stream, N, I, kGap);
    dy_NO.write(dy);
    x_NI.write(x);
    this->template check<float>(
        O, I, N,
        [&](Ref<float, 2> dw_OI, Write write) {
          linear_backward_weight(this->math_, this->stream, dw_OI, dy_NO.cref(), x_NI.cref(),
                                 write);
        },
        [&, I = I, N = N, O = O](const std::vector<double>& start) {
          return multiply(
              O, I, N, [&](auto o, auto l) { return dy[l * O + o]; },
              [&](auto l, auto i) { return x[l * I + i]; }, start);
        });
  }
}

/// On the host an element's bits depend on its terms alone, not on the product that it is part of:
/// so neither threads nor ranks that divide a product change them.
TYPED_TEST(Gemm, PartOfProductHasTheSameBits) {
  using T = typename TypeParam::T;
  if (TypeParam::backend != Backend::host) GTEST_SKIP() << "cuBLAS chooses by the size";
  constexpr std::int64_t N = 70, I = 300, O = 130, kFirst = 33, kRows = 30, kColumns = 51;
  DeviceMatrix<T> x_NI(this->stream, N, I, 0, test::random_values<T>(N * I, 1));
  DeviceMatrix<T> w_OI(this->stream, O, I, 0, test::random_values<T>(O * I, 2));
  DeviceMatrix<T> whole(this->stream, N, O, 0), part(this->stream, kRows, kColumns, 0);
  linear_forward(this->math_, this->stream, whole.ref(), x_NI.cref(), w_OI.cref());
  linear_forward(this->math_, this->stream, part.ref(), row_range(x_NI.cref(), kFirst, kRows),
                 row_range(w_OI.cref(), kFirst, kColumns));
  const auto expected = whole.read(), got = part.read();
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t j = 0; j < kColumns; ++j) {
      ASSERT_EQ(got[i * kColumns + j], expected[(kFirst + i) * O + kFirst + j]) << i << " " << j;
    }
  }
}

/// An 8-bit operand with scales of a kind, and its values times scales in double.
template <class Q>
class Fp8OperandOfTest {
 public:
  Fp8OperandOfTest(Stream& s, std::int64_t rows, std::int64_t columns, Fp8ScaleKind kind,
                   std::uint64_t seed)
      : columns_(columns), kind_(kind), scaled_(test::random_values<Q>(rows * columns, seed, 20)) {
    values_ = std::make_unique<DeviceMatrix<Q>>(s, rows, columns, 16, scaled_);
    const bool piece = kind == Fp8ScaleKind::piece, square = kind == Fp8ScaleKind::square;
    const std::int64_t scale_rows = piece    ? ceil_div(columns, kFp8Block)
                                    : square ? ceil_div(rows, kFp8Block)
                                             : 1;
    const std::int64_t scale_columns = square                         ? ceil_div(columns, kFp8Block)
                                       : kind == Fp8ScaleKind::matrix ? 1
                                                                      : rows;
    auto scales = test::random_values<float>(scale_rows * scale_columns, seed + 100, 1e-2);
    for (double& scale : scales) scale = std::abs(scale) + 1e-3F;
    for (double& scale : scales) scale = static_cast<float>(scale);
    const std::int64_t gap = square ? round_up(scale_columns, 4) - scale_columns : 0;
    scale_ = std::make_unique<DeviceMatrix<float>>(s, scale_rows, scale_columns, gap, scales);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t l = 0; l < columns; ++l) {
        const std::int64_t at = piece    ? l / kFp8Block * rows + i
                                : square ? i / kFp8Block * scale_columns + l / kFp8Block
                                : kind == Fp8ScaleKind::row ? i
                                                            : 0;
        scaled_[i * columns + l] *= scales[at];
      }
    }
  }

  Fp8Matrix<Q> matrix() const { return {values_->cref(), scale_->cref(), kind_}; }
  double operator()(std::int64_t i, std::int64_t l) const { return scaled_[i * columns_ + l]; }

 private:
  std::int64_t columns_;
  Fp8ScaleKind kind_;
  std::vector<double> scaled_;
  std::unique_ptr<DeviceMatrix<Q>> values_;
  std::unique_ptr<DeviceMatrix<float>> scale_;
};

// A tensor core drops bits while it adds up 8-bit products: an H200 is off by 6e-5 (rms).
TYPED_TEST(Gemm, Fp8MatchesReference) {
  using T = typename TypeParam::T;
  using enum Fp8ScaleKind;
  const bool on_tensor_cores = this->stream.backend() == Backend::cuda;
  const std::pair<Fp8ScaleKind, Fp8ScaleKind> kinds[] = {
      {matrix, matrix}, {row, row}, {piece, square}, {piece, piece}};
  for (const auto [M, N, K] : {Dims{16, 32, 48}, Dims{144, 256, 128}, Dims{528, 80, 640}}) {
    for (const auto& [a_kind, b_kind] : kinds) {
      SCOPED_TRACE(cat(M, "x", N, "x", K, ", kinds ", static_cast<int>(a_kind), " and ",
                       static_cast<int>(b_kind)));
      const Fp8OperandOfTest<fp8_e5m2> a(this->stream, M, K, a_kind, 1);
      const Fp8OperandOfTest<fp8_e4m3> b(this->stream, N, K, b_kind, 2);
      const auto reference = [&, M = M, N = N, K = K](const std::vector<double>& start) {
        return multiply(
            M, N, K, [&](auto i, auto l) { return a(i, l); },
            [&](auto l, auto j) { return b(j, l); }, start);
      };
      this->template check<T>(
          M, N, K,
          [&](Ref<T, 2> c_MN, Write write) {
            fp8_product(this->math_, this->stream, c_MN, a.matrix(), b.matrix(), write,
                        Accumulation::exact);
          },
          reference, kFp8Gap, on_tensor_cores ? 0x1p16 : 0);

      // Fast sums lose bits on CUDA: what is left of them is still more than the operands have.
      DeviceMatrix<T> c(this->stream, M, N, kFp8Gap);
      fp8_product(this->math_, this->stream, c.ref(), a.matrix(), b.matrix(), Write::overwrite,
                  Accumulation::fast);
      EXPECT_LE(test::nmse(c.read(), reference(std::vector<double>(M * N)).value), 1e-4);
    }
  }
}

TYPED_TEST(Gemm, RefusesWrongShapes) {
  using T = typename TypeParam::T;
  DeviceMatrix<T> x(this->stream, 3, 4, 0), w(this->stream, 5, 6, 0), y(this->stream, 3, 5, 0);
  EXPECT_THROW(linear_forward(this->math_, this->stream, y.ref(), x.cref(), w.cref()),
               InvariantError);
}

}  // namespace
}  // namespace koios
