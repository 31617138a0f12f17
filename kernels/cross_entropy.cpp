#include "kernels/cross_entropy.hpp"

#include "kernels/detail/fast_math.hpp"
#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;
using detail::store;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// One read of the row finds maximum and sum of exponentials together (the sum is rescaled when
/// the maximum grows, once per chunk); a row held in registers is not read a second time.
template <class T, bool kGradient>
struct CrossEntropy {
  using CudaShapes = detail::Shapes<detail::Shape<256, 4, 4>, detail::Shape<512, 8, 2>>;
  Ref<float, 1> loss;
  Ref<T, 2> logits;
  Ref<const std::int32_t, 1> label;
  float scale;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t n) const {
    constexpr std::int64_t kChunk = Lanes::kChunk;
    const std::int64_t size = logits.extent[1];
    T* row = logits.row(n);
    typename Lanes::template Held<T> held;
    held.fetch(lanes, row, size);
    const std::int64_t target = label[n];
    if (target < 0) {
      if (lanes.rank() == 0) loss[n] = 0;
      if constexpr (kGradient) {
        for (std::int64_t begin = 0; begin < size; begin += kChunk) {
          lanes.each(Kokkos::min(kChunk, size - begin), [&](auto width, int, std::int64_t i) {
            store(row + begin + i, filled(width, 0.0F));
          });
        }
      }
      return;
    }

    const auto target_logit = static_cast<float>(row[target]);
    float my_max = kMinusInfinity;
    float my_sum = 0;
    for (std::int64_t begin = 0; begin < size; begin += kChunk) {
      const std::int64_t count = Kokkos::min(kChunk, size - begin);
      typename Lanes::Max chunk_max;
      lanes.each(count, [&](auto width, int p, std::int64_t i) {
        chunk_max.add(held.get(width, p, row + begin + i));
      });
      const float new_max = Kokkos::fmax(my_max, chunk_max.value());
      typename Lanes::Sum chunk_sum;
      lanes.each(count, [&](auto width, int p, std::int64_t i) {
        lanes.prefetch(row + begin + 2 * kChunk + i);  // the next row's at the end of this one
        chunk_sum.add(exp(held.get(width, p, row + begin + i) - new_max));
      });
      if (new_max > my_max) my_sum *= Kokkos::exp(my_max - new_max);
      my_sum += chunk_sum.value();
      my_max = new_max;
      if constexpr (Lanes::kWholeRow) break;
    }
    const float max = lanes.max(my_max);
    // A lane without elements has the sum 0 and the maximum -inf.
    const float sum = lanes.sum(my_sum * Kokkos::exp(my_max - max));
    if (lanes.rank() == 0) loss[n] = Kokkos::log(sum) + (max - target_logit);

    if constexpr (kGradient) {
      const float factor = scale / sum;
      for (std::int64_t begin = 0; begin < size; begin += kChunk) {
        lanes.each(Kokkos::min(kChunk, size - begin), [&](auto width, int p, std::int64_t i) {
          const auto logit =
              Lanes::kWholeRow ? held.get(width, p, row + i) : load(width, row + begin + i);
          auto gradient = exp(logit - max) * factor;
          const std::int64_t k = target - (begin + i);
          if (k >= 0 && k < decltype(width)::size) {
            gradient = gradient - one_hot(width, static_cast<int>(k)) * scale;
          }
          store(row + begin + i, gradient);
        });
        if constexpr (Lanes::kWholeRow) break;
      }
    }
  }
};

template <class T, bool kGradient>
void launch(Stream& s, const char* label, const CrossEntropy<T, kGradient>& body) {
  const std::int64_t rows = body.logits.extent[0];
  KOIOS_REQUIRE(body.loss.extent[0] == rows && body.label.extent[0] == rows, "loss has ",
                body.loss.extent[0], ", label ", body.label.extent[0], " of ", rows, " rows");
  detail::for_each_row<T>(s, label, rows, body.logits.extent[1], detail::allows_packs(body.logits),
                          body);
}

}  // namespace

template <class T>
void cross_entropy_forward_backward(Stream& s, Ref<float, 1> loss_N, Ref<T, 2> logits_NV,
                                    Ref<const std::int32_t, 1> label_N, float scale) {
  launch(s, "cross_entropy_forward_backward",
         CrossEntropy<T, true>{loss_N, logits_NV, label_N, scale});
}

template <class T>
void cross_entropy_forward(Stream& s, Ref<float, 1> loss_N, Ref<const T, 2> logits_NV,
                           Ref<const std::int32_t, 1> label_N) {
  launch(s, "cross_entropy_forward",
         CrossEntropy<const T, false>{loss_N, logits_NV, label_N, 0.0F});
}

#define KOIOS_INSTANTIATE(T)                                                          \
  template void cross_entropy_forward_backward<T>(Stream&, Ref<float, 1>, Ref<T, 2>,  \
                                                  Ref<const std::int32_t, 1>, float); \
  template void cross_entropy_forward<T>(Stream&, Ref<float, 1>, Ref<const T, 2>,     \
                                         Ref<const std::int32_t, 1>);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
