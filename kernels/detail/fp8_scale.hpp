// What the casts to FP8 share: the scale of an amax, and the counters.
#pragma once

#include <Kokkos_Core.hpp>

#include "kernels/detail/pack.hpp"
#include "kernels/fp8.hpp"

namespace koios::detail {

/// NaN for NaN, 0 for infinity: then nothing finite comes out.
template <class Q>
KOIOS_HOST_DEVICE inline float fp8_scale(float amax, bool power_of_two) {
  constexpr float kLargest = Q::Format::kLargest;
  constexpr float kScaleOfZero = static_cast<float>(double{kLargest} / 1e-12);
  const float scale = amax <= 1e-12F ? kScaleOfZero : kLargest / amax;
  if (!power_of_two || !(scale > 0)) return scale;
  return __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, scale) & 0x7f800000U);
}

/// The counters of a cast, which may be absent.
struct Fp8Counters {
  std::int64_t* counts = nullptr;

  template <class Q, int W>
  KOKKOS_INLINE_FUNCTION void scaled(const ArrayPack<W>& x) const {
    if (counts == nullptr) return;
    int saturated = 0;
    KOIOS_UNROLL
    for (int k = 0; k < W; ++k) {
      saturated += ::fabsf(x.v[k]) >= Q::Format::kTooLarge ? 1 : 0;
    }
    if (saturated > 0) add(Fp8Count::saturated, saturated);
  }
#if !defined(__CUDA_ARCH__)
  template <class Q, int W>
  void scaled(const SimdPack<W>& x) const {
    if (counts != nullptr) scaled<Q>(elements(x));
  }
#endif
  /// Once for each scale.
  KOKKOS_INLINE_FUNCTION void scale_of(float amax) const {
    if (counts != nullptr && amax == 0) add(Fp8Count::zero_amax, 1);
  }

 private:
  KOKKOS_INLINE_FUNCTION void add(Fp8Count which, std::int64_t count) const {
    Kokkos::atomic_add(counts + static_cast<int>(which), count);
  }
};

/// Fp8Scales as a kernel uses them.
template <class Q>
struct Fp8Scaler {
  const float* amax;
  float* inverse;
  bool powers_of_two, by_row;
  Fp8Counters counters;

  explicit Fp8Scaler(const Fp8Scales& scales, std::int64_t rows, Ref<std::int64_t, 1> counts)
      : amax(scales.amax.data),
        inverse(scales.inverse.data),
        powers_of_two(scales.powers_of_two),
        by_row(scales.amax.extent[0] > 1),
        counters{counts.data} {
    KOIOS_REQUIRE(scales.inverse.extent[0] == scales.amax.extent[0] &&
                      (scales.amax.extent[0] == 1 || scales.amax.extent[0] == rows),
                  scales.amax.extent[0], " largest magnitudes and ", scales.inverse.extent[0],
                  " scales for ", rows, " rows");
    KOIOS_REQUIRE(counts.data == nullptr || counts.extent[0] == kFp8Counts, counts.extent[0],
                  " counters");
  }

  KOKKOS_INLINE_FUNCTION float scale(std::int64_t row) const {
    return fp8_scale<Q>(amax[by_row ? row : 0], powers_of_two);
  }
  /// Called for each row, once.
  KOKKOS_INLINE_FUNCTION void finish_row(std::int64_t row) const {
    if (row > 0 && !by_row) return;
    inverse[row] = 1.0F / scale(row);
    counters.scale_of(amax[row]);
  }
};

template <class Q, class T>
void require_same_shape(const char* name, Ref<Q, 2> q, Ref<T, 2> x) {
  KOIOS_REQUIRE(q.extent[0] == x.extent[0] && q.extent[1] == x.extent[1], name, " is ", q.extent[0],
                "x", q.extent[1], ", not ", x.extent[0], "x", x.extent[1]);
}
template <class Q, class T>
void require_transposed_shape(Ref<Q, 2> q_KN, Ref<T, 2> x_NK) {
  KOIOS_REQUIRE(q_KN.extent[0] == x_NK.extent[1] && q_KN.extent[1] == x_NK.extent[0],
                "the transpose of ", x_NK.extent[0], "x", x_NK.extent[1], " is not ",
                q_KN.extent[0], "x", q_KN.extent[1]);
}

}  // namespace koios::detail
