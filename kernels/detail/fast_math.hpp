// exp and the logistic function on packs, fast enough that the kernels stay bound by memory.
//   host  a polynomial that vectorises: good to 1 ulp in [-87, 88.37] (2 without fused
//         multiply-add); below it stays at exp(-87) = 1.6e-38, above it is infinite; NaN stays NaN
//   cuda  __expf: 2 + |1.16 x| ulp (CUDA C++ Programming Guide, intrinsic functions)
// ref of the polynomial: Moshier, Cephes, expf.
#pragma once

#include <type_traits>

#include "kernels/detail/pack.hpp"

namespace koios::detail {

/// Float is float or a vector of them, Bits the unsigned integers of the same shape.
template <class Float, class Bits>
inline Float exp_polynomial(Float x) {
  const Float lowest = Float{} - 87.0F;
  const Float highest = Float{} + 88.73F;
  x = x < lowest ? lowest : x;
  x = x > highest ? highest : x;
  // x = n log 2 + r: adding 1.5 * 2^23 rounds to the integer n and leaves it in the low bits.
  const Float shifted = x * 1.44269504F + 12582912.0F;
  const Bits two_to_n = (vector_cast<Bits>(shifted) + 127U) << 23;
  const Float n = shifted - 12582912.0F;
  const Float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  Float p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = (p * (r * r) + r) + 1.0F;
  return p * vector_cast<Float>(two_to_n);
}

KOIOS_HOST_DEVICE inline float fast_exp(float x) {
#if defined(__CUDA_ARCH__)
  return __expf(x);
#else
  return exp_polynomial<float, std::uint32_t>(x);
#endif
}

template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> exp(const ArrayPack<W>& a) {
  return generate(ArrayWidth<W>{}, [&](int k) { return fast_exp(a.v[k]); });
}
#if !defined(__CUDA_ARCH__)
template <int W>
inline SimdPack<W> exp(const SimdPack<W>& a) {
  return {exp_polynomial<typename SimdTypes<W>::Float, typename SimdTypes<W>::Bits>(a.v)};
}
#endif

/// 1 / (1 + exp(-x))
template <int W>
KOIOS_HOST_DEVICE inline ArrayPack<W> sigmoid(const ArrayPack<W>& a) {
  return generate(ArrayWidth<W>{}, [&](int k) {
#if defined(__CUDA_ARCH__)
    return __fdividef(1.0F, 1.0F + __expf(-a.v[k]));
#else
    return 1.0F / (1.0F + fast_exp(-a.v[k]));
#endif
  });
}
#if !defined(__CUDA_ARCH__)
template <int W>
inline SimdPack<W> sigmoid(const SimdPack<W>& a) {
  return {1.0F / (exp(SimdPack<W>{-a.v}).v + 1.0F)};
}
#endif

}  // namespace koios::detail
