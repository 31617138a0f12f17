// Vectors of the host backend, by the extension that g++ and clang share, and a small matrix
// product on them. For files that the host compiler builds (not nvcc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/detail/pack.hpp"

namespace koios::detail {

inline constexpr int kLanes = kSimdFloats;
using Vec = SimdTypes<kLanes>::Float;
using IntVec = SimdTypes<kLanes>::Lane;
using BitVec = SimdTypes<kLanes>::Bits;

inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
inline void store(float* to, Vec v) { std::memcpy(to, &v, sizeof(v)); }

inline Vec broadcast(float x) { return x - Vec{}; }
inline Vec max(Vec a, Vec b) { return a > b ? a : b; }

/// Combines the lanes in pairs of halves: op(lower half, upper half), down to one.
template <int W = kLanes, class Op>
inline float reduce_lanes(typename SimdTypes<W>::Float v, const Op& op) {
  if constexpr (W == 1) {
    return v[0];
  } else {
    typename SimdTypes<W / 2>::Float half[2];
    std::memcpy(half, &v, sizeof(half));
    return reduce_lanes<W / 2>(op(half[0], half[1]), op);
  }
}
inline float horizontal_max(Vec v) {
  return reduce_lanes(v, [](auto a, auto b) { return a > b ? a : b; });
}
inline float horizontal_sum(Vec v) {
  return reduce_lanes(v, [](auto a, auto b) { return a + b; });
}

/// Elements [i, i + kLanes) of a row of `size`, as float; zero past its end.
template <class T>
inline Vec load_part(const T* row, std::int64_t i, std::int64_t size) {
  if (i + kLanes <= size) return load(SimdWidth<kLanes>{}, row + i).v;
  Vec v{};
  for (std::int64_t lane = 0; i + lane < size; ++lane) v[lane] = static_cast<float>(row[i + lane]);
  return v;
}
/// The same the other way, rounded to T; what lies past the end stays.
template <class T>
inline void store_part(T* row, std::int64_t i, std::int64_t size, Vec v) {
  if (i + kLanes <= size) {
    store(row + i, SimdPack<kLanes>{v});
    return;
  }
  for (std::int64_t lane = 0; i + lane < size; ++lane) row[i + lane] = static_cast<T>(v[lane]);
}

/// One step of a transposition by halves: lanes whose index has bit S come from b, the others from
/// a; kUpper picks the second of the two results.
template <int S, bool kUpper, std::size_t... Lane>
inline Vec exchange_lanes(Vec a, Vec b, std::index_sequence<Lane...>) {
  return __builtin_shufflevector(
      a, b, ((Lane & S) != 0 ? kLanes + Lane - (kUpper ? 0 : S) : Lane + (kUpper ? S : 0))...);
}

template <int S = 1>
inline void transpose(Vec (&v)[kLanes]) {
  if constexpr (S < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if ((i & S) != 0) continue;
      const Vec a = v[i];
      const Vec b = v[i + S];
      v[i] = exchange_lanes<S, false>(a, b, std::make_index_sequence<kLanes>{});
      v[i + S] = exchange_lanes<S, true>(a, b, std::make_index_sequence<kLanes>{});
    }
    transpose<2 * S>(v);
  }
}

/// 0, 1, 2, ...
inline IntVec lane_indices() {
  IntVec v;
  for (int i = 0; i < kLanes; ++i) v[i] = i;
  return v;
}

/// 2^x for x that should not be above 0, or a little; exactly 0 below -126, so also for minus
/// infinity. In a run that diverged x may be anything: above 128 the result is infinity, and NaN
/// stays NaN, for both must reach the loss and the gradient norm, where they are noticed.
/// 2^x = 2^n 2^f, n the nearest integer: adding 1.5 * 2^23 leaves n in the low bits of the sum. 2^f
/// on [-1/2, 1/2] by the polynomial that meets it at Chebyshev's points and in 0 (relative error
/// 5e-9, so what is left is float's rounding).
inline Vec exp2_nonpositive(Vec x) {
  constexpr float kRound = 12582912.0F;           // 1.5 * 2^23
  const Vec inside = max(broadcast(-126.0F), x);  // in this order NaN passes
  const Vec shifted = inside + kRound;
  const Vec f = inside - (shifted - kRound);
  Vec p = broadcast(1.5453162945e-04F);
  p = p * f + 1.3390863365e-03F;
  p = p * f + 9.6180825573e-03F;
  p = p * f + 5.5503571142e-02F;
  p = p * f + 2.4022650761e-01F;
  p = p * f + 6.9314718803e-01F;
  p = p * f + 1.0F;
  // n to the exponent; the constant's own bits are shifted out.
  const BitVec bits = vector_cast<BitVec>(p) + (vector_cast<BitVec>(shifted) << 23);
  const Vec beyond = x * std::numeric_limits<float>::infinity();
  return x < -126.0F ? Vec{} : (x <= 128.0F ? vector_cast<Vec>(bits) : beyond);
}

/// The left operand of a tile product: element (i, l) is data[i * RowStep + l * DepthStep]. The
/// steps are constants so that the rows of a micro-tile are offsets in its instructions.
template <std::int64_t RowStep, std::int64_t DepthStep>
struct Scalars {
  const float* data;
};

/// Rows x (Vectors * kLanes) of c (=|+=) a b, with c in registers meanwhile.
template <int Rows, int Vectors, bool Accumulate, std::int64_t RowStep, std::int64_t DepthStep>
inline void micro_product(float* c, std::int64_t c_pitch, Scalars<RowStep, DepthStep> a,
                          const float* b, std::int64_t b_pitch, std::int64_t depth) {
  Vec sum[Rows][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < Vectors; ++j) {
      sum[i][j] = Accumulate ? load(c + i * c_pitch + j * kLanes) : Vec{};
    }
  }
  const float* a_column = a.data;
  for (std::int64_t l = 0; l < depth; ++l, a_column += DepthStep, b += b_pitch) {
    Vec right[Vectors];
#pragma GCC unroll 16
    for (int j = 0; j < Vectors; ++j) right[j] = load(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const Vec left = broadcast(a_column[i * RowStep]);
#pragma GCC unroll 16
      for (int j = 0; j < Vectors; ++j) sum[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < Vectors; ++j) store(c + i * c_pitch + j * kLanes, sum[i][j]);
  }
}

/// Rows of a tile product are a multiple of this.
inline constexpr std::int64_t kTileRows = kLanes;

/// c (=|+=) a b. rows: a multiple of kTileRows; columns: a multiple of kLanes, contiguous in b and
/// c. Micro-tiles of 16 vectors (AVX-512 has 32 registers) or 8 (of 16) hide the latency of fma;
/// 8 x 2 of them are a third faster than 4 x 4.
template <bool Accumulate, std::int64_t RowStep, std::int64_t DepthStep>
inline void tile_product(float* c, std::int64_t c_pitch, Scalars<RowStep, DepthStep> a,
                         const float* b, std::int64_t b_pitch, std::int64_t rows,
                         std::int64_t columns, std::int64_t depth) {
  constexpr int kVectors = 2;
  constexpr int kRows = kLanes == 16 ? 8 : 4;
  std::int64_t j = 0;
  for (; j + kVectors * kLanes <= columns; j += kVectors * kLanes) {
    for (std::int64_t i = 0; i < rows; i += kRows) {
      micro_product<kRows, kVectors, Accumulate, RowStep, DepthStep>(
          c + i * c_pitch + j, c_pitch, {a.data + i * RowStep}, b + j, b_pitch, depth);
    }
  }
  for (; j < columns; j += kLanes) {
    for (std::int64_t i = 0; i < rows; i += kTileRows) {
      micro_product<kTileRows, 1, Accumulate, RowStep, DepthStep>(
          c + i * c_pitch + j, c_pitch, {a.data + i * RowStep}, b + j, b_pitch, depth);
    }
  }
}

}  // namespace koios::detail
