// Packs rounded to bfloat16 at random (bf16::randomly), with draws that belong to the elements of
// whole parameters: the same on every mesh, backend and number of threads.
#pragma once

#include <cstdint>

#include "core/random.hpp"
#include "kernels/adamw.hpp"
#include "kernels/detail/pack.hpp"

namespace koios::detail {

/// 32 random bits for each element of a pack.
template <int W>
struct Draws {
  std::uint32_t v[W];
};

/// Rounded by bf16::randomly; shift: which 16 bits of the draws.
template <int W>
KOIOS_HOST_DEVICE inline ArrayImage<bf16, W> round_randomly(const ArrayPack<W>& a,
                                                            const Draws<W>& draws, int shift) {
  ArrayImage<bf16, W> r;
  KOIOS_UNROLL
  for (int k = 0; k < W; ++k) r.v[k] = bf16::randomly(a.v[k], draws.v[k] >> shift);
  return r;
}

#if !defined(__CUDA_ARCH__)
template <int W>
inline SimdImage<bf16, W> round_randomly(const SimdPack<W>& a, const Draws<W>& draws, int shift) {
  using Bits = typename SimdTypes<W>::Bits;
  const Bits wide = vector_cast<Bits>(a.v);
  const Bits moved = wide + ((vector_cast<Bits>(draws) >> shift) & 0xffffU);
  const Bits kept = (moved & 0x7f800000U) == 0x7f800000U ? wide : moved;
  const Bits bits = a.v != a.v ? (wide >> 16) | 0x40U : kept >> 16;
  return {__builtin_convertvector(bits, typename SimdTypes<W>::Half)};
}
#endif

/// The random bits of the elements of a shard.
struct ShardDraws {
  std::uint64_t key;
  const ElementPlace* places;
  int count;

  /// Of the pack at `i`, which is within one place or its padding.
  template <class Width>
  KOIOS_HOST_DEVICE Draws<Width::size> of(Width /*width*/, std::int64_t i) const {
    constexpr int W = Width::size;
    const ElementPlace place = find(i);
    const std::int64_t at = i - place.begin;
    const std::int64_t first = element(place, at);
    Draws<W> draws;
    if constexpr (W % 4 == 0) {
      if (first % 4 == 0 && element(place, at + W - 1) == first + W - 1) {
        KOIOS_UNROLL
        for (int k = 0; k < W; k += 4) {
          const Philox4 quad =
              element_draws(key, place.stream, static_cast<std::uint64_t>(first + k) / 4);
          KOIOS_UNROLL
          for (int j = 0; j < 4; ++j) draws.v[k + j] = quad.word[j];
        }
        return draws;
      }
    }
    for (int k = 0; k < W; ++k) {
      draws.v[k] =
          element_draw(key, place.stream, static_cast<std::uint64_t>(element(place, at + k)));
    }
    return draws;
  }

 private:
  /// The last place that begins at or before i. On CUDA a warp's packs have one.
  KOIOS_HOST_DEVICE ElementPlace find(std::int64_t i) const {
    int low = 0;
    int high = count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (places[middle].begin <= i ? low : high) = middle;
    }
    return places[low];
  }
  /// Of the whole parameter, from one of the rows here.
  KOIOS_HOST_DEVICE static std::int64_t element(const ElementPlace& place, std::int64_t at) {
    if (place.cols == place.pitch) return place.first + at;
    return place.first + at / place.cols * place.pitch + at % place.cols;
  }
};

}  // namespace koios::detail
