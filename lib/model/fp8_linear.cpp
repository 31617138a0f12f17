#include "model/fp8_linear.hpp"

#include "kernels/fp8.hpp"

namespace koios {
namespace {

/// Where the scales of a layer's input and of its output's gradient lie in Fp8Saved.
std::int64_t of_input(BlockLinear layer) { return layer; }
std::int64_t of_gradient(BlockLinear layer) { return kBlockLinears + layer; }

template <class Q>
Fp8Matrix<Q> scaled(Ref<const Q, 2> values, Ref<const float, 1> scale) {
  return {values, make_ref(scale.data, std::int64_t{1}, std::int64_t{1}), Fp8ScaleKind::matrix};
}
template <class Q>
Fp8Matrix<Q> scaled(Ref<Q, 2> values, Ref<const float, 1> scale) {
  return scaled(Ref<const Q, 2>(values), scale);
}

/// Scratch as a matrix.
template <class Q>
Ref<Q, 2> matrix(Ref<Q, 1> scratch, std::int64_t rows, std::int64_t columns) {
  return make_ref(slice(scratch, 0, rows * columns).data, rows, columns);
}

}  // namespace

template <class T>
void fp8_input(StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer, Ref<const T, 2> x_NI,
               bool again) {
  const Ref<float, 1> amax = slice(v.fp8.amax, of_input(layer), 1);
  const Fp8Scales scales{amax, slice(v.fp8.inverse, of_input(layer), 1)};
  if (!again) raise_amax<T>(c.stream, amax, x_NI);
  cast_to_fp8_with_transpose<fp8_e4m3, T>(
      c.stream, matrix(c.scratch.fp8.x, x_NI.extent[0], x_NI.extent[1]), v.fp8.x_IN[layer], x_NI,
      scales, scales, c.scratch.fp8.counts);
}

template <class T>
void fp8_forward(StageContext<T>& c, const BlockSaved<T>& v, BlockLinear layer, Ref<T, 2> y_NO,
                 const UnitView<const T>& w, int first, int last) {
  const Ref<fp8_e4m3, 2> x_IN = v.fp8.x_IN[layer];
  const Ref<fp8_e4m3, 2> x_NI = matrix(c.scratch.fp8.x, x_IN.extent[1], x_IN.extent[0]);
  const auto x = scaled(x_NI, slice(v.fp8.inverse, of_input(layer), 1));
  for (const auto& piece : w.narrow().stacked(first, last)) {
    fp8_product(c.math, c.stream, column_range(y_NO, piece.first_row, piece.matrix.extent[0]), x,
                scaled(piece.matrix, w.inverse_scale(layer)), Write::overwrite, Accumulation::fast);
  }
}

template <class T>
void fp8_gradient(StageContext<T>& c, const BlockSaved<T>& v, BlockLinear layer,
                  Ref<const T, 2> dy_NO) {
  const std::int64_t N = dy_NO.extent[0];
  const std::int64_t O = dy_NO.extent[1];
  const Ref<float, 1> amax = slice(v.fp8.amax, of_gradient(layer), 1);
  const Fp8Scales scales{amax, slice(v.fp8.inverse, of_gradient(layer), 1)};
  raise_amax<T>(c.stream, amax, dy_NO);
  cast_to_fp8_with_transpose<fp8_e5m2, T>(c.stream, matrix(c.scratch.fp8.dy, N, O),
                                          matrix(c.scratch.fp8.dy_turned, O, N), dy_NO, scales,
                                          scales, c.scratch.fp8.counts);
}

template <class T>
void fp8_backward_input(StageContext<T>& c, const BlockSaved<T>& v, BlockLinear layer,
                        Ref<T, 2> dx_NI, const UnitView<const T>& w, int first, int last) {
  const auto pieces = w.narrow().stacked(first, last);
  const std::int64_t O = pieces.back().first_row + pieces.back().matrix.extent[0];
  const Ref<fp8_e5m2, 2> dy_NO = matrix(c.scratch.fp8.dy, dx_NI.extent[0], O);
  const Ref<const float, 1> dy_scale = slice(v.fp8.inverse, of_gradient(layer), 1);
  Write write = Write::overwrite;
  for (const auto& piece : pieces) {
    const std::int64_t rows = piece.matrix.extent[0];
    const Ref<fp8_e4m3, 2> w_IO = matrix(c.scratch.fp8.w_turned, piece.matrix.extent[1], rows);
    transpose_fp8<fp8_e4m3>(c.stream, w_IO, piece.matrix);
    fp8_product(c.math, c.stream, dx_NI,
                scaled(column_range(dy_NO, piece.first_row, rows), dy_scale),
                scaled(w_IO, w.inverse_scale(layer)), write, Accumulation::exact);
    write = Write::accumulate;
  }
}

template <class T>
void fp8_backward_weight(StageContext<T>& c, const BlockSaved<T>& v, BlockLinear layer,
                         const UnitView<float>& g, int first, int last, Write write) {
  const Ref<fp8_e4m3, 2> x_IN = v.fp8.x_IN[layer];
  const auto x = scaled(x_IN, slice(v.fp8.inverse, of_input(layer), 1));
  const auto pieces = g.stacked(first, last);
  const std::int64_t O = pieces.back().first_row + pieces.back().matrix.extent[0];
  const Ref<fp8_e5m2, 2> dy_ON = matrix(c.scratch.fp8.dy_turned, O, x_IN.extent[1]);
  const Ref<const float, 1> dy_scale = slice(v.fp8.inverse, of_gradient(layer), 1);
  for (const auto& piece : pieces) {
    fp8_product(c.math, c.stream, piece.matrix,
                scaled(row_range(dy_ON, piece.first_row, piece.matrix.extent[0]), dy_scale), x,
                write, Accumulation::exact);
  }
}

#define KOIOS_INSTANTIATE(T)                                                                   \
  template void fp8_input<T>(StageContext<T>&, BlockSaved<T>&, BlockLinear, Ref<const T, 2>,   \
                             bool);                                                            \
  template void fp8_forward<T>(StageContext<T>&, const BlockSaved<T>&, BlockLinear, Ref<T, 2>, \
                               const UnitView<const T>&, int, int);                            \
  template void fp8_gradient<T>(StageContext<T>&, const BlockSaved<T>&, BlockLinear,           \
                                Ref<const T, 2>);                                              \
  template void fp8_backward_input<T>(StageContext<T>&, const BlockSaved<T>&, BlockLinear,     \
                                      Ref<T, 2>, const UnitView<const T>&, int, int);          \
  template void fp8_backward_weight<T>(StageContext<T>&, const BlockSaved<T>&, BlockLinear,    \
                                       const UnitView<float>&, int, int, Write);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
