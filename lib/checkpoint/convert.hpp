// float32 to and from the types that a file may hold, rounded to nearest even.
#pragma once

#include <cstdint>

#include "checkpoint/saved_array.hpp"

namespace koios {

/// IEEE binary16; beyond its range infinity, NaN stays NaN.
std::uint16_t to_float16(float value);
float from_float16(std::uint16_t bits);

/// `count` elements of `type` (float32, float16 or bfloat16) at `out`.
void convert_to(FileType type, void* out, const float* values, std::int64_t count);
void convert_from(FileType type, float* values, const void* in, std::int64_t count);

}  // namespace koios
