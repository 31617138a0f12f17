#include "kernels/cross_entropy.hpp"

#include <type_traits>

#include "kernels/detail/fast_math.hpp"
#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;
using detail::store;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct MaxAndSum {
  float max;
  float sum;  // of exp(x - max)
};

/// One read of the row finds maximum and sum of exponentials together: the sum is rescaled when
/// the maximum grows, once per chunk.
template <class T, class Lanes, class Held>
KOKKOS_FUNCTION MaxAndSum max_and_sum(const Lanes& lanes, const Held& held, const T* row,
                                      std::int64_t size) {
  constexpr std::int64_t kChunk = Lanes::kChunk;
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
  return {max, lanes.sum(my_sum * Kokkos::exp(my_max - max))};
}

/// A row held in registers is not read a second time.
template <class T>
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
      for (std::int64_t begin = 0; begin < size; begin += kChunk) {
        lanes.each(Kokkos::min(kChunk, size - begin), [&](auto width, int, std::int64_t i) {
          store(row + begin + i, filled(width, 0.0F));
        });
      }
      return;
    }

    const auto target_logit = static_cast<float>(row[target]);
    if constexpr (std::is_same_v<Lanes, detail::HostLane> && std::is_same_v<T, float>) {
      return keep_exponentials(lanes, n, row, size, target);
    }
    const MaxAndSum whole = max_and_sum<T>(lanes, held, row, size);
    const float max = whole.max;
    const float sum = whole.sum;
    if (lanes.rank() == 0) loss[n] = Kokkos::log(sum) + (max - target_logit);

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

 private:
  /// The row is in the cache of its core, so a pass over it costs less than exponentials: each is
  /// taken once, and lies where its logit was.
  KOKKOS_FUNCTION void keep_exponentials(const detail::HostLane& lanes, std::int64_t n, float* row,
                                         std::int64_t size, std::int64_t target) const {
    constexpr std::int64_t kChunk = detail::HostLane::kChunk;
    const float target_logit = row[target];
    detail::HostLane::Max largest;
    lanes.each(size, [&](auto width, int, std::int64_t i) {
      lanes.prefetch(row + 2 * kChunk + i);  // the next row's at the end of this one
      largest.add(load(width, row + i));
    });
    const float max = largest.value();
    float sum = 0;
    for (std::int64_t begin = 0; begin < size; begin += kChunk) {
      detail::HostLane::Sum chunk_sum;
      lanes.each(Kokkos::min(kChunk, size - begin), [&](auto width, int, std::int64_t i) {
        const auto power = exp(load(width, row + begin + i) - max);
        store(row + begin + i, power);
        chunk_sum.add(power);
      });
      sum += chunk_sum.value();
    }
    loss[n] = Kokkos::log(sum) + (max - target_logit);
    const float factor = scale / sum;
    lanes.each(size, [&](auto width, int, std::int64_t i) {
      store(row + i, load(width, row + i) * factor);
    });
    row[target] -= scale;
  }
};

/// What a rank with some of the columns contributes.
template <class T>
struct Parts {
  using CudaShapes = detail::Shapes<detail::Shape<256, 4, 4>, detail::Shape<512, 8, 2>>;
  SoftmaxParts out;
  Ref<const T, 2> logits;
  Ref<const std::int32_t, 1> label;
  std::int64_t first;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t n) const {
    const std::int64_t size = logits.extent[1];
    const T* row = logits.row(n);
    typename Lanes::template Held<const T> held;
    held.fetch(lanes, row, size);
    const MaxAndSum here = max_and_sum<const T>(lanes, held, row, size);
    if (lanes.rank() != 0) return;
    const std::int64_t target = label[n] - first;
    out.max_N[n] = here.max;
    out.sum_N[n] = here.sum;
    out.target_N[n] =
        label[n] >= 0 && target >= 0 && target < size ? static_cast<float>(row[target]) : 0.0F;
  }
};

struct Rescale {
  SoftmaxParts parts;
  Ref<const float, 1> all_max;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n) const {
    const auto factor = exp(load(width, parts.max_N.data + n) - load(width, all_max.data + n));
    store(parts.sum_N.data + n, load(width, parts.sum_N.data + n) * factor);
  }
};

template <class T>
struct LossOfParts {
  Ref<float, 1> loss;
  Ref<T, 2> logits;
  SoftmaxParts all;
  Ref<const std::int32_t, 1> label;
  std::int64_t first;
  float scale;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n, std::int64_t i) const {
    T* at = logits.row(n) + i;
    const float max = all.max_N[n];
    const float sum = all.sum_N[n];
    const bool counts = label[n] >= 0;
    if (i == 0) loss[n] = counts ? Kokkos::log(sum) + (max - all.target_N[n]) : 0.0F;
    if (!counts) {
      store(at, filled(width, 0.0F));
      return;
    }
    auto gradient = exp(load(width, at) - max) * (scale / sum);
    const std::int64_t k = label[n] - first - i;
    if (k >= 0 && k < Width::size) {
      gradient = gradient - one_hot(width, static_cast<int>(k)) * scale;
    }
    store(at, gradient);
  }
};

}  // namespace

template <class T>
void cross_entropy_forward_backward(Stream& s, Ref<float, 1> loss_N, Ref<T, 2> logits_NV,
                                    Ref<const std::int32_t, 1> label_N, float scale) {
  const std::int64_t rows = logits_NV.extent[0];
  KOIOS_REQUIRE(loss_N.extent[0] == rows && label_N.extent[0] == rows, "loss has ",
                loss_N.extent[0], ", label ", label_N.extent[0], " of ", rows, " rows");
  detail::for_each_row<T>(s, "cross_entropy_forward_backward", rows, logits_NV.extent[1],
                          detail::allows_packs(logits_NV),
                          CrossEntropy<T>{loss_N, logits_NV, label_N, scale});
}

template <class T>
void softmax_parts(Stream& s, const SoftmaxParts& parts, Ref<const T, 2> logits_NV,
                   Ref<const std::int32_t, 1> label_N, std::int64_t first) {
  detail::for_each_row<T>(s, "softmax_parts", logits_NV.extent[0], logits_NV.extent[1],
                          detail::allows_packs(logits_NV),
                          Parts<T>{parts, logits_NV, label_N, first});
}

void rescale_parts(Stream& s, const SoftmaxParts& parts, Ref<const float, 1> all_max_N) {
  detail::for_each_element<float>(s, "rescale_parts", all_max_N.extent[0],
                                  detail::allows_packs(parts.max_N, parts.sum_N, all_max_N),
                                  Rescale{parts, all_max_N});
}

template <class T>
void cross_entropy_of_parts(Stream& s, Ref<float, 1> loss_N, Ref<T, 2> logits_NV,
                            const SoftmaxParts& all, Ref<const std::int32_t, 1> label_N,
                            std::int64_t first, float scale) {
  detail::for_each_pack<T>(s, "cross_entropy_of_parts", logits_NV.extent[0], logits_NV.extent[1],
                           detail::allows_packs(logits_NV),
                           LossOfParts<T>{loss_N, logits_NV, all, label_N, first, scale});
}

#define KOIOS_INSTANTIATE(T)                                                                      \
  template void cross_entropy_forward_backward<T>(Stream&, Ref<float, 1>, Ref<T, 2>,              \
                                                  Ref<const std::int32_t, 1>, float);             \
  template void softmax_parts<T>(Stream&, const SoftmaxParts&, Ref<const T, 2>,                   \
                                 Ref<const std::int32_t, 1>, std::int64_t);                       \
  template void cross_entropy_of_parts<T>(Stream&, Ref<float, 1>, Ref<T, 2>, const SoftmaxParts&, \
                                          Ref<const std::int32_t, 1>, std::int64_t, float);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
