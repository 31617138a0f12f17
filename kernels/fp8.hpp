// Casts to FP8 with scales from the largest magnitude (amax), and what goes with them. As torchao
// does for training: scale = largest number of the type / amax, in float32; values are multiplied
// by it, clamped and rounded; products multiply by the inverse scale. Where amax is 0 (or below
// 1e-12) it counts as 1e-12; where it is NaN or infinite, NaN comes out.
// Legend: N rows, K columns; Q an 8-bit type. x_KN is the transpose of x_NK, contiguous in N:
// products in FP8 want both operands contiguous in the dimension that they sum over.
#pragma once

#include <cstdint>

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// What casts have met, counted in the backend's memory.
enum class Fp8Count {
  saturated,  // elements beyond what rounds to the largest number: a scale from older values
  zero_amax,  // scales of nothing but zeros
};
inline constexpr std::int64_t kFp8Counts = 2;

/// Scales of whole tensors lie so many floats apart: cuBLASLt reads scales where 16 bytes begin.
inline constexpr std::int64_t kFp8ScalePitch = 4;

/// Which elements share a scale, and where their amax lies. The inverse of each scale is written.
struct Fp8Scales {
  Ref<const float, 1> amax;  // one for the whole matrix, or one for each row
  Ref<float, 1> inverse;     // as many
  /// Scales are rounded down to powers of two, so that multiplying by them is exact.
  bool powers_of_two = false;
};

/// Where a kernel casts what it computes, by one scale that is known before.
template <class Q>
struct Fp8Output {
  Ref<Q, 2> q_NK;  // may be empty
  Ref<Q, 2> q_KN;
  Fp8Scales scales;
  Ref<float, 1> amax;           // raised to the largest magnitude of what was cast
  Ref<std::int64_t, 1> counts;  // kFp8Counts of them, added to; or empty
};

/// amax[0] = the larger one of itself and max |x|; NaN if x has one.
template <class T>
void raise_amax(Stream& s, Ref<float, 1> amax, Ref<const T, 2> x_NK);

/// The same for each row and for each column, in one pass.
template <class T>
void raise_amax_of_rows_and_columns(Stream& s, Ref<float, 1> amax_N, Ref<float, 1> amax_K,
                                    Ref<const T, 2> x_NK);

/// bound[i] = margin * amax[i], but where that is not finite, or 0, or norm[0] is not finite: there
/// the older one stays.
void set_bounds(Stream& s, Ref<float, 1> bound, Ref<const float, 1> amax, float margin,
                Ref<const float, 1> norm);

/// q = x * scale. counts: kFp8Counts of them, added to; or empty.
template <class Q, class T>
void cast_to_fp8(Stream& s, Ref<Q, 2> q_NK, Ref<const T, 2> x_NK, const Fp8Scales& scales,
                 Ref<std::int64_t, 1> counts);

/// Both q and its transpose in one pass; where q is empty, the transpose alone. of_columns: the
/// scales of the transpose, whose rows are the columns of x; the same as of_rows where there is one
/// scale for all.
template <class Q, class T>
void cast_to_fp8_with_transpose(Stream& s, Ref<Q, 2> q_NK, Ref<Q, 2> q_KN, Ref<const T, 2> x_NK,
                                const Fp8Scales& of_rows, const Fp8Scales& of_columns,
                                Ref<std::int64_t, 1> counts);

template <class Q>
void transpose_fp8(Stream& s, Ref<Q, 2> q_KN, Ref<const Q, 2> q_NK);

/// Elements along a side of the blocks that have a scale of their own. ref: DeepSeek-AI 2024,
/// DeepSeek-V3, section 3.3.2.
inline constexpr std::int64_t kFp8Block = 128;

/// Which elements of an 8-bit matrix have a factor of their own.
enum class Fp8ScaleKind {
  matrix,  // all the same one: 1 x 1
  row,     // each row: 1 x rows
  piece,   // each 1 x 128: ceil(columns / 128) x rows, without gaps
  square   // each 128 x 128: ceil(rows / 128) x ceil(columns / 128), with a pitch that is the
           // multiple of 4 above
};

/// Scales of a matrix, at data, and how many floats they take.
Ref<float, 2> fp8_scales(float* data, std::int64_t rows, std::int64_t columns, Fp8ScaleKind kind);
Ref<const float, 2> fp8_scales(const float* data, std::int64_t rows, std::int64_t columns,
                               Fp8ScaleKind kind);
std::int64_t fp8_scale_floats(std::int64_t rows, std::int64_t columns, Fp8ScaleKind kind);

/// x in pieces of 1 x 128: of a row for q_NK, of a column for q_KN, amax found in the same pass.
/// q_NK may be empty: then nobody asks for it or its scales.
/// Inverse scales lie as cuBLASLt wants them: the pieces that follow one another along the rows of
/// q are rows, inverse_row_BN for B = ceil(K / 128), and inverse_column_BK for B = ceil(N / 128).
template <class Q, class T>
void cast_to_fp8_in_pieces(Stream& s, Ref<Q, 2> q_NK, Ref<float, 2> inverse_row_BN, Ref<Q, 2> q_KN,
                           Ref<float, 2> inverse_column_BK, Ref<const T, 2> x_NK,
                           Ref<std::int64_t, 1> counts);

/// x in squares of 128 x 128, the same scales for q and its transpose. inverse_NK: of q's squares,
/// at least ceil(N / 128) x ceil(K / 128), and inverse_KN of its transpose's; cuBLASLt wants rows
/// whose pitch is a multiple of 4.
template <class Q, class T>
void cast_to_fp8_in_squares(Stream& s, Ref<Q, 2> q_NK, Ref<float, 2> inverse_NK, Ref<Q, 2> q_KN,
                            Ref<float, 2> inverse_KN, Ref<const T, 2> x_NK,
                            Ref<std::int64_t, 1> counts);

}  // namespace koios
