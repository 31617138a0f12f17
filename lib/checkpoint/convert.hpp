// Between the types of weights and moments in memory and in a file, rounded to nearest even.
#pragma once

#include <cstdint>

#include "checkpoint/saved_array.hpp"

namespace koios {

/// IEEE binary16; beyond its range infinity, NaN stays NaN.
std::uint16_t to_float16(float value);
float from_float16(std::uint16_t bits);

/// `count` elements, either type one of float32, float16 and bfloat16. Equal types: the same bits.
void convert(DType to, void* out, DType from, const void* in, std::int64_t count);

}  // namespace koios
