// Casts, sums and initial values.
#pragma once

#include <cstdint>

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// dst = src, rounded where To is narrower.
template <class To, class From>
void cast(Stream& s, Ref<To, 1> dst, Ref<const From, 1> src);

/// Of any pitch.
template <class To, class From>
void cast(Stream& s, Ref<To, 2> dst, Ref<const From, 2> src);

/// dst += src
template <class To, class From>
void add_into(Stream& s, Ref<To, 1> dst, Ref<const From, 1> src);

/// dst = a + b (dst may alias either)
template <class T>
void add(Stream& s, Ref<T, 2> dst, Ref<const T, 2> a, Ref<const T, 2> b);

/// dst = src, of any pitch.
template <class T>
void copy_matrix(Stream& s, Ref<T, 2> dst, Ref<const T, 2> src);

void fill(Stream& s, Ref<float, 1> dst, float value);

/// dst[i] = std * normal_at(seed, stream, first + i, cut): the elements [first, first + size) of a
/// parameter, the same numbers on every mesh and backend. cut is in units of std.
void fill_normal(Stream& s, Ref<float, 1> dst, std::uint64_t seed, std::uint64_t stream_of_name,
                 std::int64_t first, double std, double cut);
/// A range of columns of rows that are `cols` long, from element `first` on: dst(r, c) =
/// std * normal_at(seed, stream, first + r * cols + c, cut).
void fill_normal(Stream& s, Ref<float, 2> dst, std::uint64_t seed, std::uint64_t stream_of_name,
                 std::int64_t first, std::int64_t cols, double std, double cut);

}  // namespace koios
