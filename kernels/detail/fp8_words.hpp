// Neighbours of a row as a CUDA thread holds them for casts to FP8: in words. The compiler keeps
// arrays of single bytes, ArrayImages, on the stack.
// Only kernels/*.cpp include this.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/dtype.hpp"
#include "core/ref.hpp"
#include "kernels/detail/pack.hpp"

#if defined(KOIOS_CUDA)

namespace koios::detail {

template <class T>
inline constexpr int kPerWord = static_cast<int>(sizeof(std::uint32_t) / sizeof(T));

/// V neighbours of a row as they lie in memory.
template <class T, int V>
struct Words {
  static constexpr int kCount = V / kPerWord<T>;
  std::uint32_t word[kCount];
};

/// Element j of a word of T.
template <class T>
__device__ inline float value_in(std::uint32_t word, int j) {
  if constexpr (std::is_same_v<T, float>) {
    return __builtin_bit_cast(float, word);
  } else {
    static_assert(std::is_same_v<T, bf16>);
    return __builtin_bit_cast(float, j == 0 ? word << 16 : word & 0xffff0000U);
  }
}

/// The word whose element j is a T's value, and the others 0.
template <class T>
__device__ inline std::uint32_t word_with(float value, int j) {
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  return std::is_same_v<T, bf16> && j == 0 ? bits >> 16 : bits;
}

template <class T, int V>
__device__ inline ArrayPack<V> unpack(const Words<T, V>& words) {
  return generate(ArrayWidth<V>{},
                  [&](int j) { return value_in<T>(words.word[j / kPerWord<T>], j % kPerWord<T>); });
}

/// Rounded to T, as pack_as does.
template <class T, int V>
__device__ inline Words<T, V> words_of(const ArrayPack<V>& x) {
  Words<T, V> words;
  KOIOS_UNROLL
  for (int w = 0; w < words.kCount; ++w) {
    if constexpr (std::is_same_v<T, float>) {
      words.word[w] = __builtin_bit_cast(std::uint32_t, x.v[w]);
    } else {
      const __nv_bfloat162 two = __floats2bfloat162_rn(x.v[2 * w], x.v[2 * w + 1]);
      std::memcpy(&words.word[w], &two, sizeof(two));
    }
  }
  return words;
}

template <class Q, int V>
__device__ Words<Q, V> encode(const ArrayPack<V>& x) {
  constexpr auto kType = std::is_same_v<Q, fp8_e4m3> ? __NV_E4M3 : __NV_E5M2;
  const auto two = [&](int j) -> std::uint32_t {
    return __nv_cvt_float2_to_fp8x2(make_float2(x.v[j], x.v[j + 1]), __NV_SATFINITE, kType);
  };
  Words<Q, V> codes;
  KOIOS_UNROLL
  for (int j = 0; j < V; j += 4) codes.word[j / 4] = two(j) | two(j + 2) << 16;
  return codes;
}

/// V values of a row; zeros where it has ended.
template <int V, bool kPacks, class T>
__device__ Words<T, V> fetch(Ref<const T, 2> x, std::int64_t n, std::int64_t k) {
  Words<T, V> words{};
  if constexpr (kPacks) {
    if (k >= x.extent[1]) return words;
    KOIOS_UNROLL
    for (int i = 0; i < words.kCount; i += 4) {
      const uint4 four = *reinterpret_cast<const uint4*>(x.row(n) + k + i * kPerWord<T>);
      std::memcpy(&words.word[i], &four, sizeof(four));
    }
  } else {
    KOIOS_UNROLL
    for (int j = 0; j < V; ++j) {
      if (k + j >= x.extent[1]) continue;
      std::uint32_t element = 0;
      std::memcpy(&element, x.row(n) + k + j, sizeof(T));
      words.word[j / kPerWord<T>] |= element << j % kPerWord<T> * 8 * sizeof(T);
    }
  }
  return words;
}

/// 8 or 16 codes of a row; nothing where it has ended.
template <bool kPacks, class Q, int V>
__device__ void put(Ref<Q, 2> q, std::int64_t n, std::int64_t k, const Words<Q, V>& codes) {
  static_assert(V == 8 || V == 16);
  const auto& word = codes.word;
  if constexpr (kPacks) {
    if (k >= q.extent[1]) return;
    if constexpr (V == 8) {
      *reinterpret_cast<uint2*>(q.row(n) + k) = {word[0], word[1]};
    } else {
      *reinterpret_cast<uint4*>(q.row(n) + k) = {word[0], word[1], word[2], word[3]};
    }
  } else {
    KOIOS_UNROLL
    for (int j = 0; j < V; ++j) {
      if (k + j < q.extent[1]) q(n, k + j).bits = word[j / 4] >> j % 4 * 8 & 0xffU;
    }
  }
}

// ---- the largest magnitudes, in words of T. As integers they have the order of larger_magnitude;
// two of bf16 are compared at a time ----

template <class T>
__device__ std::uint32_t larger_in_words(std::uint32_t magnitudes, std::uint32_t values) {
  if constexpr (std::is_same_v<T, float>) {
    return max(magnitudes, values & 0x7fffffffU);
  } else {
    return __vmaxu2(magnitudes, values & 0x7fff7fffU);
  }
}

template <class T, int V>
__device__ std::uint32_t largest_word(std::uint32_t magnitudes, const Words<T, V>& values) {
  KOIOS_UNROLL
  for (const std::uint32_t word : values.word) magnitudes = larger_in_words<T>(magnitudes, word);
  return magnitudes;
}

template <class T>
__device__ float largest_in(std::uint32_t magnitudes) {
  return larger_magnitude(value_in<T>(magnitudes, 0), value_in<T>(magnitudes, kPerWord<T> - 1));
}

/// Over lanes whose numbers differ by less than kEnd, in multiples of kBegin.
template <class T, int kBegin, int kEnd>
__device__ std::uint32_t larger_of_lanes(std::uint32_t magnitudes) {
  KOIOS_UNROLL
  for (int distance = kBegin; distance < kEnd; distance *= 2) {
    magnitudes = larger_in_words<T>(magnitudes, __shfl_xor_sync(0xffffffffU, magnitudes, distance));
  }
  return magnitudes;
}

/// In shared memory: what each warp of a block has found in its rows of kColumns columns.
template <class T, int kWarps, int kColumns>
struct ColumnMagnitudes {
  alignas(16) std::uint32_t of_warp[kWarps][kColumns / kPerWord<T>];

  __device__ float of_all(int column) const {
    std::uint32_t largest = 0;
    KOIOS_UNROLL
    for (const auto& words : of_warp) {
      largest = larger_in_words<T>(largest, words[column / kPerWord<T>]);
    }
    return value_in<T>(largest, column % kPerWord<T>);
  }
};

}  // namespace koios::detail

#endif
