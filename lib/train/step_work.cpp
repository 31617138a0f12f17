#include "train/step_work.hpp"

#include "model/fp8_linear.hpp"

namespace koios {
namespace {

using Kind = Action::Kind;

/// Sizes of a rank as numbers to multiply; the letters are those of model/local_shape.hpp.
struct Sizes {
  double n, s, d, a, kv, q, f, v;  // tokens, rows, dim, A, K E, Q, F, V
  double c;                        // bytes of the compute type
  bool narrow_weights;

  explicit Sizes(const TrainingShape& shape) {
    const LocalShape local(shape.model, shape.tensor, shape.micro_batch);
    n = static_cast<double>(local.tokens);
    s = static_cast<double>(local.rows);
    d = static_cast<double>(shape.model.dim);
    a = static_cast<double>(local.q_cols);
    kv = static_cast<double>(local.kv_cols);
    q = static_cast<double>(local.qkv_cols());
    f = static_cast<double>(local.ffn);
    v = static_cast<double>(local.vocab);
    c = static_cast<double>(size_of(shape.compute));
    narrow_weights = shape.gather.narrow.has_value();
  }

  double matrices() const { return d * q + a * d + 3 * d * f; }  // elements of a block's
  double norm() const { return 2 * c * s * d; }                  // one read, one written
  double rope(double columns) const { return 2 * c * n * columns; }
  double attention(double seq_len) const { return 2 * a * n * seq_len; }  // forward, causal
  double inputs() const { return n * (d + a + d + f); }         // of a block's four products
  double gradients() const { return n * (q + d + 2 * f + d); }  // of their outputs
};

/// Bytes an element: its largest magnitude is read, then it is cast, in two layouts. That is what
/// rowwise does; of the others, which find it otherwise, the rate of casts makes up for it.
constexpr double kFp8Cast = 2 + 2 + 1 + 1;
constexpr double kFp8CastAgain = 2 + 1 + 1;  // the magnitude is known
constexpr double kFp8Transpose = 1 + 1;
constexpr double kFp8AtOnce = 1 + 1;  // of what is never written in the compute type

/// What is cast at once: what swiglu writes, forward and backward, what rope does backward, and
/// what norms do.
struct AtOnce {
  bool casts = false;
  bool with_norms = false;

  AtOnce(const TrainingShape& shape, Fp8Recipe recipe)
      : casts(recipe != Fp8Recipe::none && shape.fp8.scales == Fp8ScalesOf::previous),
        with_norms(casts && norms_cast_at_once(shape.model, shape.tensor)) {}
};

/// Weights arrive cast and are transposed for the backward pass; those that are gathered in the
/// compute type are cast before each product.
double fp8_weight_bytes(const Sizes& z, bool is_forward) {
  if (!z.narrow_weights) return (2 + 2 + 1) * z.matrices();
  return is_forward ? 0 : kFp8Transpose * z.matrices();
}

/// Of a block's two norms, whose kernels read and write so many values of a row's width: each row
/// is written in 8 bits, and all are transposed.
void cast_in_norms(RankWork& w, const Sizes& z, const AtOnce& at_once, double cast, double values) {
  if (!at_once.with_norms) return;
  w.elementwise_bytes -= values * z.c * z.n * z.d;
  w.at_once_bytes += ((values - 2) * z.c + 2) * z.n * z.d;
  w.narrow_cast_bytes += 2 * (kFp8Transpose - cast) * z.n * z.d;
}

RankWork block_forward(const Sizes& z, Fp8Recipe recipe, const AtOnce& at_once, double seq_len) {
  RankWork w;
  (recipe == Fp8Recipe::none ? w.gemm : w.gemm_narrow) = 2 * z.n * z.matrices();
  w.attention_forward = z.attention(seq_len);
  w.elementwise_bytes = 4 * z.norm() + z.rope(z.a + z.kv) + 3 * z.c * z.n * z.f;
  if (recipe != Fp8Recipe::none) {
    w.narrow_cast_bytes = kFp8Cast * z.inputs() + fp8_weight_bytes(z, true);
  }
  if (at_once.casts) {
    w.elementwise_bytes -= 3 * z.c * z.n * z.f;
    w.at_once_bytes = (2 * z.c + kFp8AtOnce) * z.n * z.f;
    w.narrow_cast_bytes -= kFp8Cast * z.n * z.f;
  }
  cast_in_norms(w, z, at_once, kFp8Cast, 6);  // one of them adds before
  return w;
}

RankWork block_backward(const Sizes& z, Fp8Recipe recipe, const AtOnce& at_once, double seq_len,
                        Kind kind) {
  RankWork w;
  const double products = kind == Kind::backward ? 4 : 2;
  (recipe == Fp8Recipe::none ? w.gemm : w.gemm_narrow) = products * z.n * z.matrices();
  if (kind == Kind::backward_weight) return w;
  w.attention_backward = 2.5 * z.attention(seq_len);
  w.elementwise_bytes = 4 * z.norm() + z.rope(z.a + z.kv) + 5 * z.c * z.n * z.f;
  if (recipe != Fp8Recipe::none) {
    w.narrow_cast_bytes = kFp8Cast * z.gradients() + fp8_weight_bytes(z, false);
  }
  if (at_once.casts && kind == Kind::backward) {
    w.elementwise_bytes -= 5 * z.c * z.n * z.f + z.rope(z.a + z.kv);
    w.at_once_bytes = (3 * z.c + 2 * kFp8AtOnce) * z.n * z.f + (z.c + kFp8AtOnce) * z.n * z.q;
    w.narrow_cast_bytes -= kFp8Cast * z.n * (2 * z.f + z.q);
  }
  return w;
}

/// As docs/recomputation.md counts it.
RankWork block_recompute(const Sizes& z, Fp8Recipe recipe, const AtOnce& at_once, Recompute level,
                         double seq_len) {
  RankWork w;
  double products = 0;
  w.elementwise_bytes = 2 * z.norm() + 3 * z.c * z.n * z.f;
  if (level == Recompute::op_half) {
    products = 2 * z.n * (z.d * z.kv + z.a * z.d + z.d * z.f);
    w.elementwise_bytes += z.norm() + z.rope(z.kv);
  } else if (level == Recompute::full) {
    products = 2 * z.n * (z.d * z.q + z.a * z.d + 2 * z.d * z.f);
    w.attention_forward = z.attention(seq_len);
    w.elementwise_bytes += z.norm() + z.rope(z.a + z.kv);
  }
  (recipe == Fp8Recipe::none ? w.gemm : w.gemm_narrow) = products;
  if (recipe != Fp8Recipe::none) w.narrow_cast_bytes = kFp8CastAgain * z.inputs();
  if (at_once.casts) {  // the transpose alone
    w.elementwise_bytes -= 3 * z.c * z.n * z.f;
    w.at_once_bytes = (2 * z.c + 1) * z.n * z.f;
    w.narrow_cast_bytes -= kFp8CastAgain * z.n * z.f;
  }
  cast_in_norms(w, z, at_once, kFp8CastAgain, 4);
  return w;
}

/// Forward and backward, chunk by chunk; the logits are written once and read once more.
RankWork head(const Sizes& z) {
  RankWork w;
  w.gemm = 6 * z.n * z.d * z.v;
  w.elementwise_bytes = 4 * z.norm() + 2 * z.c * z.n * z.v;
  return w;
}

RankWork embedding(const Sizes& z, bool is_forward) {
  RankWork w;
  const double table = is_forward ? 0 : sizeof(float) * z.v * z.d;  // filled with zeros
  w.elementwise_bytes = 2 * z.c * z.n * z.d + table;
  return w;
}

/// Own rows: masters to what is gathered, unless the update has done that.
RankWork gather(const Action& action, const TrainingShape& shape, const ShardLayout& layout) {
  const UnitLayout& unit = layout.unit(action.unit);
  const std::int64_t gathered =
      gathered_bytes(unit, shape.compute, layout, shape.gather, action.values);
  RankWork w;
  if (keeps_cast(shape.compute, shape.gather)) return w;
  w.cast_bytes = sizeof(float) * static_cast<double>(unit.in_shard.count) +
                 static_cast<double>(gathered) / layout.ranks();
  return w;
}

/// Where gradients travel in bfloat16 they are rounded before; those of later micro-batches are
/// added to what is there.
RankWork reduce(const UnitLayout& unit, const TrainingShape& shape, const ShardLayout& layout,
                bool accumulate) {
  RankWork w;
  if (shape.reduce.dtype == DType::bfloat16) {
    w.cast_bytes += (4 + 2) * static_cast<double>(unit.gathered_elements(layout.ranks()));
  }
  if (accumulate) w.cast_bytes += 3 * sizeof(float) * static_cast<double>(unit.in_shard.count);
  return w;
}

}  // namespace

RankWork work_of(const Action& action, const TrainingShape& shape, const ShardLayout& layout) {
  const Sizes z(shape);
  const auto seq_len = static_cast<double>(shape.micro_batch.seq_len);
  if (action.kind == Kind::update) {
    // The norm reads the gradients; Adam reads them, reads and writes masters and two moments, and
    // where casts are kept writes these, too. A pass over the masters finds the scales of weights.
    const double arrays = shape.gather.narrow ? 5 : 4;
    const auto moments = static_cast<double>(4 * size_of(shape.moments));
    const double cast =
        keeps_cast(shape.compute, shape.gather) ? static_cast<double>(size_of(shape.compute)) : 0;
    RankWork w;
    w.optimizer_bytes =
        (arrays * sizeof(float) + moments + cast) * static_cast<double>(layout.shard_size());
    return w;
  }
  if (action.unit < 0) return {};
  const UnitLayout& unit = layout.unit(action.unit);
  const bool is_block = unit.role == UnitRole::block;
  const Fp8Recipe recipe = is_block ? shape.fp8.of_block(unit.layer) : Fp8Recipe::none;
  const AtOnce at_once(shape, recipe);
  switch (action.kind) {
    case Kind::gather:
      return gather(action, shape, layout);
    case Kind::forward:
      if (is_block) return block_forward(z, recipe, at_once, seq_len);
      return unit.role == UnitRole::head ? head(z) : embedding(z, true);
    case Kind::recompute:
      return block_recompute(z, recipe, at_once, shape.recompute.of_block(unit.layer), seq_len);
    case Kind::backward:
    case Kind::backward_input:
    case Kind::backward_weight:
      if (is_block) return block_backward(z, recipe, at_once, seq_len, action.kind);
      return unit.role == UnitRole::embedding ? embedding(z, false) : RankWork{};
    case Kind::reduce:
      return reduce(unit, shape, layout, action.accumulate);
    default:
      return {};
  }
}

}  // namespace koios
