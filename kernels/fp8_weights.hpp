// Weights in FP8 (e4m3), made by ranks that each have some rows of a matrix: first all of them find
// the largest magnitudes (amax), then each casts its rows by scales that all know. The same values
// and scales as those of the casts in fp8.hpp.
// Legend: N rows, K columns; B counts blocks of 128.
#pragma once

#include <cstdint>

#include "core/ref.hpp"
#include "kernels/fp8.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// Raises amax_BB, of all squares of 128 x 128 of a matrix, to what x has: its rows from first_row
/// on. NaN stays.
void raise_amax_of_squares(Stream& s, Ref<float, 2> amax_BB, Ref<const float, 2> x_NK,
                           std::int64_t first_row);

/// scale: comes as amaxes, and becomes the scales. inverse: theirs.
void make_weight_scales(Stream& s, Ref<float, 1> scale, Ref<float, 1> inverse);

/// q = x times the scale of its square, x being the rows from first_row on.
void cast_weights_by_square(Stream& s, Ref<fp8_e4m3, 2> q_NK, Ref<const float, 2> x_NK,
                            Ref<const float, 2> scale_BB, std::int64_t first_row);

/// x times the scale of its row, and times that of its column; either may be empty.
void cast_weights_by_row_and_column(Stream& s, Ref<fp8_e4m3, 2> by_row_NK,
                                    Ref<fp8_e4m3, 2> by_column_NK, Ref<const float, 2> x_NK,
                                    Ref<const float, 1> scale_N, Ref<const float, 1> scale_K);

/// The scales of a matrix's transpose, where squares have them.
void transpose_scales(Stream& s, Ref<float, 2> turned_BB, Ref<const float, 2> scale_BB);

}  // namespace koios
