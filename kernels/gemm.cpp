#include "kernels/gemm.hpp"

#include "core/integers.hpp"
#include "kernels/detail/math_impl.hpp"
#include "kernels/fp8.hpp"
#include "runtime/region.hpp"

namespace koios {
namespace {

template <class T>
void require_rows(Ref<T, 2> m, const char* name) {
  KOIOS_REQUIRE(m.pitch >= m.extent[1], name, " has a pitch of ", m.pitch, " for rows of ",
                m.extent[1]);
}

void run(MathHandles& math, Stream& s, const char* name, std::int64_t summands,
         const detail::Gemm& gemm) {
  const auto& c = gemm.c.matrix;
  if (c.rows == 0 || c.columns == 0) return;
  const double flops = 2.0 * static_cast<double>(c.rows) * static_cast<double>(c.columns) *
                       static_cast<double>(summands);
  const Region region(s, name, {.flops = flops, .extents = {c.rows, c.columns, summands}});
  math.impl().gemm(s, gemm);
}

}  // namespace

template <class T>
void linear_forward(MathHandles& math, Stream& s, Ref<T, 2> y_NO, Ref<const T, 2> x_NI,
                    Ref<const T, 2> w_OI, Write write) {
  KOIOS_REQUIRE(y_NO.extent[0] == x_NI.extent[0] && y_NO.extent[1] == w_OI.extent[0] &&
                    x_NI.extent[1] == w_OI.extent[1],
                "y ", y_NO.extent[0], "x", y_NO.extent[1], " = x ", x_NI.extent[0], "x",
                x_NI.extent[1], " times the transpose of w ", w_OI.extent[0], "x", w_OI.extent[1]);
  require_rows(y_NO, "y");
  require_rows(x_NI, "x");
  require_rows(w_OI, "w");
  run(math, s, "product", x_NI.extent[1],
      {.a = {.matrix = detail::matrix(x_NI)},
       .b = {.matrix = detail::matrix(w_OI), .transposed = true},
       .c = {.matrix = detail::matrix(y_NO)},
       .accumulate = write == Write::accumulate});
}

template <class T>
void linear_backward_input(MathHandles& math, Stream& s, Ref<T, 2> dx_NI, Ref<const T, 2> dy_NO,
                           Ref<const T, 2> w_OI, Write write) {
  KOIOS_REQUIRE(dx_NI.extent[0] == dy_NO.extent[0] && dx_NI.extent[1] == w_OI.extent[1] &&
                    dy_NO.extent[1] == w_OI.extent[0],
                "dx ", dx_NI.extent[0], "x", dx_NI.extent[1], " = dy ", dy_NO.extent[0], "x",
                dy_NO.extent[1], " times w ", w_OI.extent[0], "x", w_OI.extent[1]);
  require_rows(dx_NI, "dx");
  require_rows(dy_NO, "dy");
  require_rows(w_OI, "w");
  run(math, s, "input gradient", dy_NO.extent[1],
      {.a = {.matrix = detail::matrix(dy_NO)},
       .b = {.matrix = detail::matrix(w_OI)},
       .c = {.matrix = detail::matrix(dx_NI)},
       .accumulate = write == Write::accumulate});
}

template <class T>
void linear_backward_weight(MathHandles& math, Stream& s, Ref<float, 2> dw_OI,
                            Ref<const T, 2> dy_NO, Ref<const T, 2> x_NI, Write write) {
  KOIOS_REQUIRE(dw_OI.extent[0] == dy_NO.extent[1] && dw_OI.extent[1] == x_NI.extent[1] &&
                    dy_NO.extent[0] == x_NI.extent[0],
                "dw ", dw_OI.extent[0], "x", dw_OI.extent[1], " = the transpose of dy ",
                dy_NO.extent[0], "x", dy_NO.extent[1], " times x ", x_NI.extent[0], "x",
                x_NI.extent[1]);
  require_rows(dw_OI, "dw");
  require_rows(dy_NO, "dy");
  require_rows(x_NI, "x");
  run(math, s, "weight gradient", dy_NO.extent[0],
      {.a = {.matrix = detail::matrix(dy_NO), .transposed = true},
       .b = {.matrix = detail::matrix(x_NI)},
       .c = {.matrix = detail::matrix(dw_OI)},
       .accumulate = write == Write::accumulate});
}

namespace {

std::int64_t scale_rows(Fp8ScaleKind kind, std::int64_t rows, std::int64_t columns) {
  switch (kind) {
    case Fp8ScaleKind::matrix:
    case Fp8ScaleKind::row:
      return 1;
    case Fp8ScaleKind::piece:
      return ceil_div(columns, kFp8Block);
    case Fp8ScaleKind::square:
      return ceil_div(rows, kFp8Block);
  }
  KOIOS_REQUIRE(false, "unknown kind of scale");
}

std::int64_t scale_columns(Fp8ScaleKind kind, std::int64_t rows, std::int64_t columns) {
  switch (kind) {
    case Fp8ScaleKind::matrix:
      return 1;
    case Fp8ScaleKind::row:
    case Fp8ScaleKind::piece:
      return rows;
    case Fp8ScaleKind::square:
      return ceil_div(columns, kFp8Block);
  }
  KOIOS_REQUIRE(false, "unknown kind of scale");
}

template <class Q>
detail::Gemm::Operand operand(const char* name, const Fp8Matrix<Q>& m, bool transposed) {
  require_rows(m.values, name);
  const std::int64_t rows = m.values.extent[0];
  const std::int64_t columns = m.values.extent[1];
  KOIOS_REQUIRE(m.scale.extent[0] == scale_rows(m.kind, rows, columns) &&
                    m.scale.extent[1] == scale_columns(m.kind, rows, columns),
                "the scales of ", name, ", ", rows, "x", columns, ", are ", m.scale.extent[0], "x",
                m.scale.extent[1]);
  return {.matrix = detail::matrix(m.values),
          .transposed = transposed,
          .scale = {m.kind, m.scale.data, m.scale.pitch}};
}

}  // namespace

template <class C, class A, class B>
void fp8_product(MathHandles& math, Stream& s, Ref<C, 2> c_MN, const Fp8Matrix<A>& a_MK,
                 const Fp8Matrix<B>& b_NK, Write write, Accumulation accumulation) {
  const auto& a = a_MK.values;
  const auto& b = b_NK.values;
  KOIOS_REQUIRE(
      c_MN.extent[0] == a.extent[0] && c_MN.extent[1] == b.extent[0] && a.extent[1] == b.extent[1],
      "c ", c_MN.extent[0], "x", c_MN.extent[1], " = a ", a.extent[0], "x", a.extent[1],
      " times the transpose of b ", b.extent[0], "x", b.extent[1]);
  const auto is_block = [](Fp8ScaleKind kind) {
    return kind == Fp8ScaleKind::piece || kind == Fp8ScaleKind::square;
  };
  KOIOS_REQUIRE(a_MK.kind == b_NK.kind || (is_block(a_MK.kind) && is_block(b_NK.kind)),
                "scales of two kinds");
  require_rows(c_MN, "c");
  run(math, s, "fp8_product", a.extent[1],
      {.a = operand("a", a_MK, false),
       .b = operand("b", b_NK, true),
       .c = {.matrix = detail::matrix(c_MN)},
       .accumulate = write == Write::accumulate,
       .fast_accumulation = accumulation == Accumulation::fast && !is_block(a_MK.kind)});
}

#define KOIOS_INSTANTIATE(T)                                                                     \
  template void linear_forward<T>(MathHandles&, Stream&, Ref<T, 2>, Ref<const T, 2>,             \
                                  Ref<const T, 2>, Write);                                       \
  template void linear_backward_input<T>(MathHandles&, Stream&, Ref<T, 2>, Ref<const T, 2>,      \
                                         Ref<const T, 2>, Write);                                \
  template void linear_backward_weight<T>(MathHandles&, Stream&, Ref<float, 2>, Ref<const T, 2>, \
                                          Ref<const T, 2>, Write);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

#define KOIOS_INSTANTIATE(C, A, B)                                                          \
  template void fp8_product<C, A, B>(MathHandles&, Stream&, Ref<C, 2>, const Fp8Matrix<A>&, \
                                     const Fp8Matrix<B>&, Write, Accumulation);
KOIOS_INSTANTIATE(float, fp8_e4m3, fp8_e4m3)
KOIOS_INSTANTIATE(float, fp8_e5m2, fp8_e4m3)
KOIOS_INSTANTIATE(bf16, fp8_e4m3, fp8_e4m3)
KOIOS_INSTANTIATE(bf16, fp8_e5m2, fp8_e4m3)
#undef KOIOS_INSTANTIATE

}  // namespace koios
