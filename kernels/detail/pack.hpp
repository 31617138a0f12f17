// Packs: the unit in which a kernel reads, computes and writes. A body is written once for any
// width and gets a tag that says which pack it works on:
//   SimdWidth<W>   host: one vector register of W floats. The compiler's vector extension, because
//                  loops over small arrays are vectorised only when the optimiser happens to see it
//   ArrayWidth<W>  CUDA: W floats of one thread, read and written as 16-byte accesses where W says
//                  so; W = 1 is also the host's tail of a row
// An Image is a pack as it lies in memory (T, not float): what a kernel keeps of a row in registers
// at half the size, and what rounding to T gives.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/dtype.hpp"
#include "core/host_device.hpp"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#endif

// The loops over a pack have constant trip counts and must disappear: a pack lives in registers.
#if defined(__CUDA_ARCH__)
#define KOIOS_UNROLL _Pragma("unroll")
#define KOIOS_UNROLL_BY(n) _Pragma(KOIOS_UNROLL_TEXT(unroll n))
#define KOIOS_UNROLL_TEXT(text) #text
#else
#define KOIOS_UNROLL
#define KOIOS_UNROLL_BY(n)
#endif

namespace koios::detail {

/// Floats in a vector register of the processor this file is compiled for.
#if defined(__AVX512F__)
inline constexpr int kSimdFloats = 16;
#elif defined(__AVX__)
inline constexpr int kSimdFloats = 8;
#else
inline constexpr int kSimdFloats = 4;
#endif

// ---- arrays: CUDA threads, and single elements anywhere ----

template <int W>
struct ArrayPack {
  float v[W];
};

template <class T, int W>
struct alignas(sizeof(T) * W) ArrayImage {
  T v[W];
};

template <int W>
struct ArrayWidth {
  static constexpr int size = W;
  using Pack = ArrayPack<W>;
  template <class T>
  using Image = ArrayImage<T, W>;
};
using Scalar = ArrayWidth<1>;

/// f(k) for each element; f's results make up a pack.
template <int W, class F>
KOIOS_HOST_DEVICE inline ArrayPack<W> generate(ArrayWidth<W>, const F& f) {
  ArrayPack<W> r;
  KOIOS_UNROLL
  for (int k = 0; k < W; ++k) r.v[k] = f(k);
  return r;
}

template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> filled(ArrayWidth<W> width, float value) {
  return generate(width, [&](int) { return value; });
}

template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> operator+(const ArrayPack<W>& a, const ArrayPack<W>& b) {
  return generate(ArrayWidth<W>{}, [&](int k) { return a.v[k] + b.v[k]; });
}
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> operator-(const ArrayPack<W>& a, const ArrayPack<W>& b) {
  return generate(ArrayWidth<W>{}, [&](int k) { return a.v[k] - b.v[k]; });
}
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> operator*(const ArrayPack<W>& a, const ArrayPack<W>& b) {
  return generate(ArrayWidth<W>{}, [&](int k) { return a.v[k] * b.v[k]; });
}
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> operator/(const ArrayPack<W>& a, const ArrayPack<W>& b) {
  return generate(ArrayWidth<W>{}, [&](int k) { return a.v[k] / b.v[k]; });
}
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> operator+(const ArrayPack<W>& a, float b) {
  return generate(ArrayWidth<W>{}, [&](int k) { return a.v[k] + b; });
}
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> operator-(const ArrayPack<W>& a, float b) {
  return generate(ArrayWidth<W>{}, [&](int k) { return a.v[k] - b; });
}
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> operator*(const ArrayPack<W>& a, float b) {
  return generate(ArrayWidth<W>{}, [&](int k) { return a.v[k] * b; });
}

template <int W>
KOIOS_HOST_DEVICE inline float total(const ArrayPack<W>& a) {
  if constexpr (W == 1) {
    return a.v[0];
  } else {
    ArrayPack<W / 2> half;
    KOIOS_UNROLL
    for (int k = 0; k < W / 2; ++k) half.v[k] = a.v[k] + a.v[k + W / 2];
    return total(half);
  }
}

template <int W>
KOIOS_HOST_DEVICE inline float largest(const ArrayPack<W>& a) {
  if constexpr (W == 1) {
    return a.v[0];
  } else {
    ArrayPack<W / 2> half;
    KOIOS_UNROLL
    for (int k = 0; k < W / 2; ++k) {
      half.v[k] = a.v[k] > a.v[k + W / 2] ? a.v[k] : a.v[k + W / 2];
    }
    return largest(half);
  }
}

/// Element by element, the larger one.
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> larger(const ArrayPack<W>& a, const ArrayPack<W>& b) {
  return generate(ArrayWidth<W>{}, [&](int k) { return a.v[k] > b.v[k] ? a.v[k] : b.v[k]; });
}
/// Element by element, the square root.
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> sqrt(const ArrayPack<W>& a) {
  return generate(ArrayWidth<W>{}, [&](int k) { return ::sqrtf(a.v[k]); });
}

/// 1 at element k, 0 elsewhere.
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> one_hot(ArrayWidth<W> width, int k) {
  return generate(width, [&](int j) { return j == k ? 1.0F : 0.0F; });
}

/// Pairs turned by angles given as cos, sin, cos, sin, ...: (a, b) -> (a c - b s, a s + b c).
/// direction -1 turns back.
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> turn_pairs(const ArrayPack<W>& x, const ArrayPack<W>& angle,
                                                 float direction) {
  static_assert(W % 2 == 0);
  ArrayPack<W> r;
  KOIOS_UNROLL
  for (int k = 0; k < W; k += 2) {
    const float c = angle.v[k];
    const float s = angle.v[k + 1] * direction;
    r.v[k] = x.v[k] * c - x.v[k + 1] * s;
    r.v[k + 1] = x.v[k] * s + x.v[k + 1] * c;
  }
  return r;
}

/// The larger one of |a| and |b|; NaN counts as larger than all numbers, so it stays to be seen.
KOIOS_HOST_DEVICE inline float larger_magnitude(float a, float b) {
  const auto x = __builtin_bit_cast(std::uint32_t, a) & 0x7fffffffU;
  const auto y = __builtin_bit_cast(std::uint32_t, b) & 0x7fffffffU;
  return __builtin_bit_cast(float, x > y ? x : y);
}
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> larger_magnitude(const ArrayPack<W>& a,
                                                       const ArrayPack<W>& b) {
  return generate(ArrayWidth<W>{}, [&](int k) { return larger_magnitude(a.v[k], b.v[k]); });
}
template <int W>
KOIOS_HOST_DEVICE inline float largest_magnitude(const ArrayPack<W>& a) {
  float r = 0;
  KOIOS_UNROLL
  for (int k = 0; k < W; ++k) r = larger_magnitude(r, a.v[k]);
  return r;
}

/// Packs of narrow types beside packs of 4 floats. (Two floats may be a tail, at any address.)
template <class T, int W>
inline constexpr bool is_eight_bytes = sizeof(T) < sizeof(float) && sizeof(T) * W == 8;

/// Memory to image. Where an image is 8 bytes of a narrow type, or a multiple of 16, the address
/// must be a multiple of as much.
template <int W, class T>
KOIOS_HOST_DEVICE inline ArrayImage<T, W> load_image(ArrayWidth<W>, const T* p) {
  ArrayImage<T, W> r;
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(r) % sizeof(uint4) == 0) {
    KOIOS_UNROLL
    for (int k = 0; k < static_cast<int>(sizeof(r) / sizeof(uint4)); ++k) {
      const uint4 words = reinterpret_cast<const uint4*>(p)[k];
      std::memcpy(reinterpret_cast<char*>(&r) + k * sizeof(uint4), &words, sizeof(uint4));
    }
  } else if constexpr (is_eight_bytes<T, W>) {
    const uint2 words = *reinterpret_cast<const uint2*>(p);
    std::memcpy(&r, &words, sizeof(r));
  } else
#endif
  {
    KOIOS_UNROLL
    for (int k = 0; k < W; ++k) r.v[k] = p[k];
  }
  return r;
}

template <class T, int W>
KOIOS_HOST_DEVICE inline void store_image(T* p, const ArrayImage<T, W>& image) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(image) % sizeof(uint4) == 0) {
    KOIOS_UNROLL
    for (int k = 0; k < static_cast<int>(sizeof(image) / sizeof(uint4)); ++k) {
      uint4 words;
      std::memcpy(&words, reinterpret_cast<const char*>(&image) + k * sizeof(uint4), sizeof(uint4));
      reinterpret_cast<uint4*>(p)[k] = words;
    }
  } else if constexpr (is_eight_bytes<T, W>) {
    uint2 words;
    std::memcpy(&words, &image, sizeof(image));
    *reinterpret_cast<uint2*>(p) = words;
  } else
#endif
  {
    KOIOS_UNROLL
    for (int k = 0; k < W; ++k) p[k] = image.v[k];
  }
}

template <class T, int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> unpack(const ArrayImage<T, W>& image) {
  return generate(ArrayWidth<W>{}, [&](int k) { return static_cast<float>(image.v[k]); });
}

/// Rounded to T.
template <class T, int W>
KOIOS_HOST_DEVICE inline ArrayImage<T, W> pack_as(const ArrayPack<W>& a) {
  ArrayImage<T, W> r;
#if defined(__CUDA_ARCH__)
  if constexpr (is_fp8<T> && W % 2 == 0) {  // two conversions in one instruction
    constexpr auto kType = std::is_same_v<T, fp8_e4m3> ? __NV_E4M3 : __NV_E5M2;
    KOIOS_UNROLL
    for (int k = 0; k < W; k += 2) {
      const auto two =
          __nv_cvt_float2_to_fp8x2(make_float2(a.v[k], a.v[k + 1]), __NV_SATFINITE, kType);
      r.v[k].bits = static_cast<std::uint8_t>(two);
      r.v[k + 1].bits = static_cast<std::uint8_t>(two >> 8);
    }
  } else if constexpr (std::is_same_v<T, bf16> && W % 2 == 0) {
    KOIOS_UNROLL
    for (int k = 0; k < W; k += 2) {
      const __nv_bfloat162 two = __floats2bfloat162_rn(a.v[k], a.v[k + 1]);
      r.v[k].bits = __bfloat16_as_ushort(two.x);
      r.v[k + 1].bits = __bfloat16_as_ushort(two.y);
    }
  } else
#endif
  {
    KOIOS_UNROLL
    for (int k = 0; k < W; ++k) r.v[k] = static_cast<T>(a.v[k]);
  }
  return r;
}

// ---- vector registers of the host ----

#if defined(__CUDA_ARCH__)
// nvcc also compiles bodies for the host's lanes when it compiles for the device, where it refuses
// vectors, and throws the result away.
template <int W>
using SimdWidth = ArrayWidth<W>;
template <int W>
using SimdPack = ArrayPack<W>;
#else

template <int W>
struct SimdTypes {
  typedef float Float __attribute__((vector_size(W * 4)));
  typedef std::uint32_t Bits __attribute__((vector_size(W * 4)));
  typedef std::int32_t Lane __attribute__((vector_size(W * 4)));
  typedef std::uint16_t Half __attribute__((vector_size(W * 2)));
  typedef std::uint8_t Byte __attribute__((vector_size(W)));
};

template <int W>
struct SimdPack {
  typename SimdTypes<W>::Float v;
};

template <class T, int W>
struct SimdImage;
template <int W>
struct SimdImage<float, W> {
  typename SimdTypes<W>::Float v;
};
template <int W>
struct SimdImage<bf16, W> {
  typename SimdTypes<W>::Half v;
};
template <class Format, int W>
struct SimdImage<Fp8<Format>, W> {
  typename SimdTypes<W>::Byte v;
};

template <int W>
struct SimdWidth {
  static constexpr int size = W;
  using Pack = SimdPack<W>;
  template <class T>
  using Image = SimdImage<T, W>;
};

template <class To, class From>
inline To vector_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

template <int W>
inline SimdPack<W> filled(SimdWidth<W>, float value) {
  return {value - typename SimdTypes<W>::Float{}};
}

template <int W>
inline SimdPack<W> operator+(const SimdPack<W>& a, const SimdPack<W>& b) {
  return {a.v + b.v};
}
template <int W>
inline SimdPack<W> operator-(const SimdPack<W>& a, const SimdPack<W>& b) {
  return {a.v - b.v};
}
template <int W>
inline SimdPack<W> operator*(const SimdPack<W>& a, const SimdPack<W>& b) {
  return {a.v * b.v};
}
template <int W>
inline SimdPack<W> operator/(const SimdPack<W>& a, const SimdPack<W>& b) {
  return {a.v / b.v};
}
template <int W>
inline SimdPack<W> operator+(const SimdPack<W>& a, float b) {
  return {a.v + b};
}
template <int W>
inline SimdPack<W> operator-(const SimdPack<W>& a, float b) {
  return {a.v - b};
}
template <int W>
inline SimdPack<W> operator*(const SimdPack<W>& a, float b) {
  return {a.v * b};
}

template <int W>
inline ArrayPack<W> elements(const SimdPack<W>& a) {
  ArrayPack<W> r;
  std::memcpy(&r, &a, sizeof(r));
  return r;
}
template <int W>
inline float total(const SimdPack<W>& a) {
  return total(elements(a));
}
template <int W>
inline float largest(const SimdPack<W>& a) {
  return largest(elements(a));
}
/// Element by element, the larger one.
template <int W>
inline SimdPack<W> larger(const SimdPack<W>& a, const SimdPack<W>& b) {
  return {a.v > b.v ? a.v : b.v};
}

template <int W>
inline SimdPack<W> larger_magnitude(const SimdPack<W>& a, const SimdPack<W>& b) {
  using Types = SimdTypes<W>;
  const auto x = vector_cast<typename Types::Bits>(a.v) & 0x7fffffffU;
  const auto y = vector_cast<typename Types::Bits>(b.v) & 0x7fffffffU;
  return {vector_cast<typename Types::Float>(x > y ? x : y)};
}
template <int W>
inline float largest_magnitude(const SimdPack<W>& a) {
  return largest_magnitude(elements(a));
}

template <int W>
inline SimdPack<W> sqrt(const SimdPack<W>& a) {
  SimdPack<W> r;
  for (int k = 0; k < W; ++k) r.v[k] = __builtin_sqrtf(a.v[k]);
  return r;
}

template <int W>
inline SimdPack<W> one_hot(SimdWidth<W> width, int k) {
  SimdPack<W> r = filled(width, 0.0F);
  r.v[k] = 1.0F;
  return r;
}

template <int W>
inline SimdPack<W> turn_pairs(const SimdPack<W>& x, const SimdPack<W>& angle, float direction) {
  typename SimdTypes<W>::Lane even{}, odd{}, other{};
  typename SimdTypes<W>::Float sign{};
  for (int k = 0; k < W; ++k) {
    even[k] = k & ~1;
    odd[k] = k | 1;
    other[k] = k ^ 1;
    sign[k] = k % 2 == 0 ? -direction : direction;
  }
  return {x.v * __builtin_shuffle(angle.v, even) +
          __builtin_shuffle(x.v, other) * (__builtin_shuffle(angle.v, odd) * sign)};
}

template <int W, class T>
inline SimdImage<T, W> load_image(SimdWidth<W>, const T* p) {
  SimdImage<T, W> r;
  std::memcpy(&r.v, p, sizeof(r.v));
  return r;
}
template <class T, int W>
inline void store_image(T* p, const SimdImage<T, W>& image) {
  std::memcpy(static_cast<void*>(p), &image.v, sizeof(image.v));
}

template <int W>
inline SimdPack<W> unpack(const SimdImage<float, W>& image) {
  return {image.v};
}
template <int W>
inline SimdPack<W> unpack(const SimdImage<bf16, W>& image) {
  using Bits = typename SimdTypes<W>::Bits;
  const Bits wide = __builtin_convertvector(image.v, Bits) << 16;
  return {vector_cast<typename SimdTypes<W>::Float>(wide)};
}

template <class Format, int W>
inline SimdPack<W> unpack(const SimdImage<Fp8<Format>, W>& image) {
  using Types = SimdTypes<W>;
  const auto codes = __builtin_convertvector(image.v, typename Types::Bits);
  return {Format::template decode<typename Types::Bits, typename Types::Float>(codes)};
}

template <class T, int W>
inline SimdImage<T, W> pack_as(const SimdPack<W>& a) {
  if constexpr (std::is_same_v<T, float>) {
    return {a.v};
  } else if constexpr (is_fp8<T>) {
    const auto codes = T::Format::template encode<typename SimdTypes<W>::Bits>(a.v);
    return {__builtin_convertvector(codes, typename SimdTypes<W>::Byte)};
  } else {  // bf16's constructor, on vectors
    using Bits = typename SimdTypes<W>::Bits;
    const Bits wide = vector_cast<Bits>(a.v);
    const Bits half = ((wide >> 16) & 1U) + 0x7fffU;
    const Bits rounded = (wide + half) >> 16;
    const Bits quiet = (wide >> 16) | 0x40U;
    const Bits bits = a.v != a.v ? quiet : rounded;
    return {__builtin_convertvector(bits, typename SimdTypes<W>::Half)};
  }
}

#endif

// ---- both ----

template <class Width, class T>
KOIOS_HOST_DEVICE inline typename Width::Pack load(Width width, const T* p) {
  return unpack(load_image(width, p));
}
template <class T, class Pack>
KOIOS_HOST_DEVICE inline void store(T* p, const Pack& a) {
  store_image(p, pack_as<T>(a));
}
/// Stores, and returns what is there now.
template <class T, class Pack>
KOIOS_HOST_DEVICE inline Pack written(T* p, const Pack& a) {
  const auto image = pack_as<T>(a);
  store_image(p, image);
  return unpack(image);
}

}  // namespace koios::detail
