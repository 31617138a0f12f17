// For kernels that cast what they compute (Fp8Output): the same tiles as those of the casts.
// Only kernels/*.cpp include this.
#pragma once

#include "kernels/detail/fp8_tile.hpp"

namespace koios::detail {

/// A result in 8 bits, which may be empty, and its transpose.
template <class Q>
struct Fp8Result {
  Ref<Q, 2> q_NK, q_KN;
};

template <class Q, class T>
Fp8Result<Q> checked_result(const Fp8Output<Q>& to, Ref<T, 2> x_NK) {
  if (to.q_NK.data != nullptr) require_same_shape("q", to.q_NK, x_NK);
  require_transposed_shape(to.q_KN, x_NK);
  KOIOS_REQUIRE(to.amax.extent[0] == 1, "one amax, not ", to.amax.extent[0]);
  return {to.q_NK, to.q_KN};
}

/// A kernel that casts what it computes, by a scale from before, must not make the largest number
/// of an infinity: nobody would see it any more.
KOKKOS_INLINE_FUNCTION float nan_for_infinity(float x) {
  return Kokkos::isfinite(x) ? x : __builtin_bit_cast(float, 0x7fc00000U);
}

// ---- the host ----

/// f(width, i) for the packs of a piece of a row; they are those that the whole row has.
template <class F>
void host_packs(std::int64_t count, const F& f) {
  static_assert(kHostTileColumns % kSimdFloats == 0);
  std::int64_t i = 0;
  for (; i + kSimdFloats <= count; i += kSimdFloats) f(HostLane::Simd{}, i);
  for (; i < count; ++i) f(Scalar{}, i);
}

/// Casts a piece of row n that was computed, rounded to T.
template <class Q, class T>
void host_cast(const Fp8Result<Q>& to, std::int64_t n, std::int64_t first, const T* computed,
               std::int64_t count, const Fp8Scaler<Q>& scaler) {
  const float scale = scaler.scale(0);
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = nan_for_infinity(static_cast<float>(computed[i]));
    const Q code = scaled<Q>(value, scale, scaler.counters);
    if (to.q_NK.data != nullptr) to.q_NK(n, first + i) = code;
    to.q_KN(first + i, n) = code;
  }
}

/// row(n, first, count, largest) for the rows of a tile.
template <class T, class Row>
void host_tile_rows(Ref<const T, 2> x_NK, std::int64_t tile, float* amax, const Row& row) {
  const TileStart start(tile, x_NK.extent[1], kHostTileColumns);
  const std::int64_t count = std::min(kHostTileColumns, x_NK.extent[1] - start.k);
  const std::int64_t end = std::min(start.n + kTileRows, x_NK.extent[0]);
  HostLane::Magnitude largest;
  for (std::int64_t n = start.n; n < end; ++n) row(n, start.k, count, largest);
  raise_magnitude(amax, largest.value());
}

#if defined(KOIOS_CUDA)

// ---- CUDA ----

template <class T, int V>
__device__ float largest_in(const Held<T, V>& held) {
  std::uint32_t largest = 0;
  KOIOS_UNROLL
  for (const auto& row : held.row) largest = largest_word(largest, row);
  return largest_in<T>(largest);
}

template <class T, int V>
__device__ void replace_infinities(Held<T, V>& held) {
  KOIOS_UNROLL
  for (auto& row : held.row) {
    const auto x = unpack(row);
    row = words_of<T>(generate(ArrayWidth<V>{}, [&](int k) { return nan_for_infinity(x.v[k]); }));
  }
}

/// Casts what a thread holds of a tile, and writes all but the transpose. Returns the largest
/// magnitude.
template <bool kPacks, class Q, class T, class Place>
__device__ float cast_held(Held<T, Place::V>& held, const Fp8Result<Q>& to, const Place& at,
                           float scale, const Fp8Counters& counters, TurnedTile<Q, Place>& turned) {
  const float largest = largest_in(held);
  if (!Kokkos::isfinite(largest)) replace_infinities(held);  // NaN may stand beside one
  turned.take(
      at, 0,
      cast_rows<kPacks>(held, filled(ArrayWidth<kHeldRows>{}, scale), to.q_NK, at, 0, counters));
  return largest;
}

/// Of all threads of a block; a barrier, too.
template <int kThreads>
__device__ void raise_amax_of_tile(float* amax, float largest, int rank) {
  largest = across_threads<kThreads>(largest, rank, LargerMagnitude{});
  if (rank == 0) raise_magnitude(amax, largest);
}

#endif

}  // namespace koios::detail
