#include "model/fp8_linear.hpp"

#include "core/integers.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/fp8_weights.hpp"
#include "runtime/region.hpp"

namespace koios {
namespace {

Ref<float, 1> flat(Ref<float, 2> scale) { return make_ref(scale.data, scale.size()); }

/// An 8-bit matrix to be written.
template <class Q>
struct Target {
  Ref<Q, 2> values;
  Ref<float, 2> scale;
  Fp8ScaleKind kind;

  Fp8Matrix<Q> read() const { return {values, scale, kind}; }
};

/// A matrix in scratch.
template <class Q>
Target<Q> place(const Fp8Room<Q>& room, std::int64_t rows, std::int64_t columns,
                Fp8ScaleKind kind) {
  return {make_ref(slice(room.values, 0, rows * columns).data, rows, columns),
          fp8_scales(room.scale.data, rows, columns, kind), kind};
}

template <class Q>
Fp8Matrix<Q> rows_of(const Fp8Matrix<Q>& m, std::int64_t first, std::int64_t count) {
  auto scale = m.scale;
  if (m.kind == Fp8ScaleKind::row) scale = column_range(scale, first, count);
  KOIOS_REQUIRE(m.kind != Fp8ScaleKind::piece || count == m.values.extent[0],
                "some rows of a matrix that has scales of pieces");
  return {row_range(m.values, first, count), scale, m.kind};
}

template <class Q>
Fp8Matrix<Q> columns_of(const Fp8Matrix<Q>& m, std::int64_t first, std::int64_t count) {
  KOIOS_REQUIRE(m.kind != Fp8ScaleKind::piece || count == m.values.extent[1],
                "some columns of a matrix that has scales of pieces");
  return {column_range(m.values, first, count), m.scale, m.kind};
}

/// Largest magnitudes of all rows and all columns, in scratch.
struct RowAndColumnAmax {
  Ref<float, 1> of_rows, of_columns;
};

template <class T>
RowAndColumnAmax find_amax(StageContext<T>& c, Ref<const T, 2> m) {
  const Ref<float, 1> both = slice(c.scratch.fp8.amax, 0, m.extent[0] + m.extent[1]);
  const RowAndColumnAmax amax{slice(both, 0, m.extent[0]), slice(both, m.extent[0], m.extent[1])};
  fill(c.stream, both, 0);
  raise_amax_of_rows_and_columns<T>(c.stream, amax.of_rows, amax.of_columns, m);
  return amax;
}

/// Whether the next step makes the tensor's scale of what this one finds.
template <class T>
bool is_remembered(const StageContext<T>& c, const Fp8Saved& saved, int which) {
  return c.fp8_history != nullptr && saved.first_in_history >= 0 &&
         c.fp8_history->is_used(saved.first_in_history + which);
}

/// Then the kernel that computes the tensor casts it.
template <class T>
bool is_known_before(const StageContext<T>& c, const Fp8Saved& saved, int which) {
  return is_remembered(c, saved, which) && c.fp8_history->is_known(saved.first_in_history + which);
}

/// m, inputs or gradients of tokens, and its transpose, in 8 bits. which: the tensor's amax.
template <class Q, class T>
void cast_tokens(StageContext<T>& c, const Fp8Saved& saved, const Target<Q>& straight,
                 const Target<Q>& turned, Ref<const T, 2> m, int which) {
  if (is_known_before(c, saved, which)) return;
  Stream& s = c.stream;
  const int results = straight.values.data != nullptr ? 2 : 1;
  const Region region(s, "cast to FP8",
                      {.bytes = static_cast<double>(m.size()) * (sizeof(T) + results * sizeof(Q))});
  const Ref<std::int64_t, 1> counts = c.scratch.fp8.counts;
  switch (straight.kind) {
    case Fp8ScaleKind::row: {
      const RowAndColumnAmax found = find_amax(c, m);
      cast_to_fp8_with_transpose<Q, T>(s, straight.values, turned.values, m,
                                       {found.of_rows, flat(straight.scale)},
                                       {found.of_columns, flat(turned.scale)}, counts);
      return;
    }
    case Fp8ScaleKind::piece:
      cast_to_fp8_in_pieces<Q, T>(s, straight.values, straight.scale, turned.values, turned.scale,
                                  m, counts);
      return;
    default:
      const Ref<float, 1> amax = slice(saved.amax, which, 1);
      if (saved.amax_of[which] == AmaxOf::nothing) raise_amax<T>(s, amax, m);
      if (is_remembered(c, saved, which)) {
        raise_amax<float>(s, c.fp8_history->found(saved.first_in_history + which),
                          make_ref<const float>(amax.data, 1, 1));
      }
      const Fp8Scales scales{amax, flat(turned.scale)};
      cast_to_fp8_with_transpose<Q, T>(s, straight.values, turned.values, m, scales, scales,
                                       counts);
  }
}

/// The same of all tensor-parallel ranks' rows, of which this rank has mine_SD. With one scale for
/// all of them the rows travel in 8 bits, and bring the same values: other scales are of columns,
/// too, which no rank has whole.
template <class Q, class T>
void gather_tokens(StageContext<T>& c, Fp8Saved& saved, const Target<Q>& straight,
                   const Target<Q>& turned, Ref<const T, 2> mine_SD, int which) {
  const std::int64_t rows = mine_SD.extent[0];
  const Ref<float, 1> amax = slice(saved.amax, which, 1);
  AmaxOf& known = saved.amax_of[which];
  if (known == AmaxOf::nothing) raise_amax<T>(c.stream, amax, mine_SD);
  if (known != AmaxOf::all_rows) {
    // As whole numbers magnitudes have the order that they have, and NaN is the largest.
    c.tp.all_reduce({amax.data, 1, DType::int32}, ReduceOp::max);
    known = AmaxOf::all_rows;
  }
  {
    const Region region(c.stream, "cast to FP8",
                        {.bytes = static_cast<double>(mine_SD.size()) * (sizeof(T) + sizeof(Q))});
    cast_to_fp8<Q, T>(c.stream, row_range(straight.values, c.tp.rank() * rows, rows), mine_SD,
                      {amax, flat(turned.scale)}, c.scratch.fp8.counts);
  }
  c.tp.all_gather(any(straight.values));
  const Region region(c.stream, "transpose in FP8", passes_over(straight.values, turned.values));
  transpose_fp8<Q>(c.stream, turned.values, straight.values);
}

template <class T>
bool gathers_in_8_bits(const StageContext<T>& c, const Fp8Saved& saved) {
  return c.tp.size() > 1 && saved.recipe == Fp8Recipe::tensorwise;
}

/// The squares of weights that were gathered in the compute type: one of both results is used.
template <class T, class Use>
void each_cast_weight(StageContext<T>& c, const UnitView<const T>& w, int first, int last,
                      bool turned, const Use& use) {
  const Fp8Scratch& scratch = c.scratch.fp8;
  for (const auto& piece : w.stacked(first, last)) {
    const auto [O, I] = piece.matrix.extent;
    const auto w_OI = place(scratch.w, O, I, Fp8ScaleKind::square);
    const auto w_IO = place(scratch.w_turned, I, O, Fp8ScaleKind::square);
    cast_to_fp8_in_squares<fp8_e4m3, T>(c.stream, w_OI.values, w_OI.scale, w_IO.values, w_IO.scale,
                                        piece.matrix, {});
    use(piece.first_row, (turned ? w_IO : w_OI).read());
  }
}

/// use(first row, 8-bit matrix) for each piece of the layer's parameters first..last, turned or as
/// it is, one after the other.
template <class T, class Use>
void each_weight(StageContext<T>& c, const BlockSaved<T>& v, const UnitView<const T>& w, int first,
                 int last, bool turned, const Use& use) {
  if (!w.is_narrow(first)) return each_cast_weight(c, w, first, last, turned, use);
  const Fp8ScaleKind kind = fp8_weight_scale(v.fp8.recipe);
  for (const auto& piece : (turned ? w.narrow_to_turn() : w.narrow()).stacked(first, last)) {
    const auto [O, I] = piece.matrix.extent;
    const NarrowUnit::Scales& scales = w.scales(piece.parameter);
    Fp8Matrix<fp8_e4m3> matrix{piece.matrix, fp8_scales(scales.straight, O, I, kind), kind};
    if (turned) {
      const auto w_IO = place(c.scratch.fp8.w_turned, I, O, kind);
      transpose_fp8<fp8_e4m3>(c.stream, w_IO.values, piece.matrix);
      if (kind == Fp8ScaleKind::square) {
        transpose_scales(c.stream, w_IO.scale, matrix.scale);
        matrix = w_IO.read();
      } else {
        matrix = {w_IO.values, fp8_scales(scales.turned, I, O, kind), kind};
      }
    }
    use(piece.first_row, matrix);
  }
}

/// The layer's input, and its transpose, which is kept.
template <class T>
Target<fp8_e4m3> turned_input(const BlockSaved<T>& v, BlockLinear layer) {
  return {v.fp8.x_IN[layer], v.fp8.scale[layer], fp8_token_scale(v.fp8.recipe)};
}
template <class T>
Target<fp8_e4m3> straight_input(const StageContext<T>& c, const BlockSaved<T>& v,
                                BlockLinear layer) {
  const Target<fp8_e4m3> turned = turned_input(v, layer);
  Target<fp8_e4m3> x =
      place(c.scratch.fp8.x, turned.values.extent[1], turned.values.extent[0], turned.kind);
  if (x.kind == Fp8ScaleKind::matrix) x.scale = turned.scale;
  return x;
}

/// The gradient of a layer's output, O wide.
template <class T>
Target<fp8_e5m2> straight_gradient(const StageContext<T>& c, const BlockSaved<T>& v,
                                   std::int64_t O) {
  const Fp8Scratch& scratch = c.scratch.fp8;
  const Fp8ScaleKind kind = fp8_token_scale(v.fp8.recipe);
  Target<fp8_e5m2> dy = place(scratch.dy, c.local.tokens, O, kind);
  if (kind == Fp8ScaleKind::matrix) dy.scale = fp8_scales(scratch.dy_turned.scale.data, O, 1, kind);
  return dy;
}
template <class T>
Target<fp8_e5m2> turned_gradient(const StageContext<T>& c, const BlockSaved<T>& v, std::int64_t O) {
  return place(c.scratch.fp8.dy_turned, O, c.local.tokens, fp8_token_scale(v.fp8.recipe));
}

template <class T>
Accumulation backward_accumulation(const BlockSaved<T>& v) {
  return v.fp8.fast_backward ? Accumulation::fast : Accumulation::exact;
}

/// Rows of all pieces together.
template <class Pieces>
std::int64_t rows_in(const Pieces& pieces) {
  return pieces.back().first_row + pieces.back().matrix.extent[0];
}

/// Places of the amaxes.
int of_input(BlockLinear layer) { return layer; }
int of_gradient(BlockLinear layer) { return kBlockLinears + layer; }

/// Promises that the amax will be known. is_gathered: with tensor parallelism no rank writes all.
Ref<float, 1> promise(const TensorParallelOptions& tensor, Fp8Saved& saved, int which,
                      bool is_gathered) {
  AmaxOf& known = saved.amax_of[which];
  if (saved.recipe != Fp8Recipe::tensorwise || known != AmaxOf::nothing) return {};
  known = is_gathered && tensor.ranks > 1 ? AmaxOf::own_rows : AmaxOf::all_rows;
  return slice(saved.amax, which, 1);
}

template <class Q, class T>
Fp8Output<Q> at_once(const StageContext<T>& c, const Fp8Saved& saved, Ref<Q, 2> straight,
                     const Target<Q>& turned, int which) {
  const int place = saved.first_in_history + which;
  return {straight,
          turned.values,
          {c.fp8_history->bound(place), flat(turned.scale)},
          c.fp8_history->found(place),
          c.scratch.fp8.counts};
}

}  // namespace

template <class T>
void fp8_forget_amax(StageContext<T>& c, BlockSaved<T>& v) {
  fill(c.stream, v.fp8.amax, 0);
  for (AmaxOf& known : v.fp8.amax_of) known = AmaxOf::nothing;
}

template <class T>
Ref<float, 1> fp8_input_amax(const StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer) {
  const bool is_gathered = layer == kQkvLinear || layer == kGateUpLinear;
  return promise(c.tensor, v.fp8, of_input(layer), is_gathered);
}

template <class T>
Ref<float, 1> fp8_gradient_amax(const StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer) {
  const bool is_gathered = layer == kOutLinear || layer == kDownLinear;
  return promise(c.tensor, v.fp8, of_gradient(layer), is_gathered);
}

template <class T>
std::optional<Fp8Output<fp8_e4m3>> fp8_input_at_once(const StageContext<T>& c,
                                                     const BlockSaved<T>& v, BlockLinear layer,
                                                     Fp8Use use) {
  if (!is_known_before(c, v.fp8, of_input(layer))) return std::nullopt;
  Target<fp8_e4m3> straight = straight_input(c, v, layer);
  if (use == Fp8Use::weight_gradient) straight.values = {};
  return at_once(c, v.fp8, straight.values, turned_input(v, layer), of_input(layer));
}

template <class T>
std::optional<Fp8Output<fp8_e5m2>> fp8_gradient_at_once(const StageContext<T>& c,
                                                        const BlockSaved<T>& v, BlockLinear layer,
                                                        std::int64_t O) {
  if (!is_known_before(c, v.fp8, of_gradient(layer))) return std::nullopt;
  return at_once(c, v.fp8, straight_gradient(c, v, O).values, turned_gradient(c, v, O),
                 of_gradient(layer));
}

bool norms_cast_at_once(const ModelSpec& model, const TensorParallelOptions& tensor) {
  return tensor.ranks == 1 && !has_mean(model.norm);
}

std::vector<int> fp8_places_at_once(const StageShape& shape, const Fp8Saved& saved) {
  if (saved.first_in_history < 0) return {};
  std::vector<int> places = {saved.first_in_history + of_input(kDownLinear)};
  if (norms_cast_at_once(shape.model, shape.tensor)) {
    for (const BlockLinear layer : {kQkvLinear, kGateUpLinear}) {
      places.push_back(saved.first_in_history + of_input(layer));
    }
  }
  // backward_weight casts gradients once more, and so wants them in the compute type.
  if (shape.splits_backward) return places;
  for (const BlockLinear layer : {kGateUpLinear, kQkvLinear}) {
    places.push_back(saved.first_in_history + of_gradient(layer));
  }
  return places;
}

template <class T>
void fp8_input(StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer, Ref<const T, 2> x_NI,
               Fp8Use use) {
  Target<fp8_e4m3> straight = straight_input(c, v, layer);
  if (use == Fp8Use::weight_gradient) straight.values = {};
  cast_tokens<fp8_e4m3, T>(c, v.fp8, straight, turned_input(v, layer), x_NI, of_input(layer));
  v.fp8.amax_of[of_input(layer)] = AmaxOf::all_rows;
}

template <class T>
void fp8_gathered_input(StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer,
                        Ref<const T, 2> x_SD, Fp8Use use) {
  if (!gathers_in_8_bits(c, v.fp8)) return fp8_input(c, v, layer, c.tp.gather(x_SD).all(), use);
  gather_tokens<fp8_e4m3, T>(c, v.fp8, straight_input(c, v, layer), turned_input(v, layer), x_SD,
                             of_input(layer));
}

template <class T>
void fp8_forward(StageContext<T>& c, const BlockSaved<T>& v, BlockLinear layer, Ref<T, 2> y_NO,
                 const UnitView<const T>& w, int first, int last) {
  const Fp8Matrix<fp8_e4m3> x_NI = straight_input(c, v, layer).read();
  each_weight(c, v, w, first, last, false,
              [&](std::int64_t first_row, const Fp8Matrix<fp8_e4m3>& w_OI) {
                fp8_product(c.math, c.stream, column_range(y_NO, first_row, w_OI.values.extent[0]),
                            x_NI, w_OI, Write::overwrite, Accumulation::fast);
              });
}

template <class T>
void fp8_gradient(StageContext<T>& c, const BlockSaved<T>& v, BlockLinear layer,
                  Ref<const T, 2> dy_NO) {
  const std::int64_t O = dy_NO.extent[1];
  cast_tokens<fp8_e5m2, T>(c, v.fp8, straight_gradient(c, v, O), turned_gradient(c, v, O), dy_NO,
                           of_gradient(layer));
}

template <class T>
void fp8_gathered_gradient(StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer,
                           Ref<const T, 2> dy_SD) {
  if (!gathers_in_8_bits(c, v.fp8)) return fp8_gradient(c, v, layer, c.tp.gather(dy_SD).all());
  const std::int64_t O = dy_SD.extent[1];
  gather_tokens<fp8_e5m2, T>(c, v.fp8, straight_gradient(c, v, O), turned_gradient(c, v, O), dy_SD,
                             of_gradient(layer));
}

template <class T>
void fp8_backward_input(StageContext<T>& c, const BlockSaved<T>& v, Ref<T, 2> dx_NI,
                        const UnitView<const T>& w, int first, int last) {
  const Fp8Matrix<fp8_e5m2> dy_NO = straight_gradient(c, v, rows_in(w.stacked(first, last))).read();
  Write write = Write::overwrite;
  each_weight(
      c, v, w, first, last, true, [&](std::int64_t first_row, const Fp8Matrix<fp8_e4m3>& w_IO) {
        fp8_product(c.math, c.stream, dx_NI, columns_of(dy_NO, first_row, w_IO.values.extent[1]),
                    w_IO, write, backward_accumulation(v));
        write = Write::accumulate;
      });
}

template <class T>
void fp8_backward_weight(StageContext<T>& c, const BlockSaved<T>& v, BlockLinear layer,
                         const UnitView<float>& g, int first, int last, Write write) {
  const auto pieces = g.stacked(first, last);
  const Fp8Matrix<fp8_e4m3> x_IN = turned_input(v, layer).read();
  const Fp8Matrix<fp8_e5m2> dy_ON = turned_gradient(c, v, rows_in(pieces)).read();
  for (const auto& piece : pieces) {
    fp8_product(c.math, c.stream, piece.matrix,
                rows_of(dy_ON, piece.first_row, piece.matrix.extent[0]), x_IN, write,
                backward_accumulation(v));
  }
}

#define KOIOS_INSTANTIATE(T)                                                                     \
  template void fp8_forget_amax<T>(StageContext<T>&, BlockSaved<T>&);                            \
  template Ref<float, 1> fp8_input_amax<T>(const StageContext<T>&, BlockSaved<T>&, BlockLinear); \
  template Ref<float, 1> fp8_gradient_amax<T>(const StageContext<T>&, BlockSaved<T>&,            \
                                              BlockLinear);                                      \
  template std::optional<Fp8Output<fp8_e4m3>> fp8_input_at_once<T>(                              \
      const StageContext<T>&, const BlockSaved<T>&, BlockLinear, Fp8Use);                        \
  template std::optional<Fp8Output<fp8_e5m2>> fp8_gradient_at_once<T>(                           \
      const StageContext<T>&, const BlockSaved<T>&, BlockLinear, std::int64_t);                  \
  template void fp8_input<T>(StageContext<T>&, BlockSaved<T>&, BlockLinear, Ref<const T, 2>,     \
                             Fp8Use);                                                            \
  template void fp8_gathered_input<T>(StageContext<T>&, BlockSaved<T>&, BlockLinear,             \
                                      Ref<const T, 2>, Fp8Use);                                  \
  template void fp8_forward<T>(StageContext<T>&, const BlockSaved<T>&, BlockLinear, Ref<T, 2>,   \
                               const UnitView<const T>&, int, int);                              \
  template void fp8_gradient<T>(StageContext<T>&, const BlockSaved<T>&, BlockLinear,             \
                                Ref<const T, 2>);                                                \
  template void fp8_gathered_gradient<T>(StageContext<T>&, BlockSaved<T>&, BlockLinear,          \
                                         Ref<const T, 2>);                                       \
  template void fp8_backward_input<T>(StageContext<T>&, const BlockSaved<T>&, Ref<T, 2>,         \
                                      const UnitView<const T>&, int, int);                       \
  template void fp8_backward_weight<T>(StageContext<T>&, const BlockSaved<T>&, BlockLinear,      \
                                       const UnitView<float>&, int, int, Write);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
