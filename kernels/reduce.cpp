#include "kernels/reduce.hpp"

#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

constexpr float kLeastNormal = std::numeric_limits<float>::min();

using detail::load;

/// The least number of elements that make up a partial sum.
constexpr std::int64_t kLeastChunk = 4096;

/// Sum over x[0, size), for each lane in float32 over short pieces and in double over those.
template <bool kSquare, class Lanes>
KOKKOS_FUNCTION float sum_of(const Lanes& lanes, const float* x, std::int64_t size) {
  const std::int64_t chunk = Lanes::kChunk;  // min() takes references, which device code has not
  double mine = 0;
  for (std::int64_t begin = 0; begin < size; begin += chunk) {
    typename Lanes::Sum piece;
    lanes.each(Kokkos::min(chunk, size - begin), [&](auto width, int, std::int64_t i) {
      const auto v = load(width, x + begin + i);
      if constexpr (kSquare) {
        piece.add(v * v);
      } else {
        piece.add(v);
      }
    });
    mine += piece.value();
  }
  return lanes.sum(static_cast<float>(mine));
}

template <bool kSquare>
struct PartialSums {
  using CudaShapes = detail::Shapes<>;
  Ref<const float, 1> x;
  Ref<float, 1> partials;
  std::int64_t chunk;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t part) const {
    const std::int64_t begin = part * chunk;
    const std::int64_t size = Kokkos::min(chunk, x.extent[0] - begin);
    const float sum = sum_of<kSquare>(lanes, x.data + begin, size);
    if (lanes.rank() == 0) partials[part] = sum;
  }
};

struct Total {
  using CudaShapes = detail::Shapes<>;
  Ref<float, 1> out;
  Ref<const float, 1> partials;
  bool accumulate;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t) const {
    const float sum = sum_of<false>(lanes, partials.data, partials.extent[0]);
    if (lanes.rank() == 0) out[0] = accumulate ? out[0] + sum : sum;
  }
};

template <bool kSquare>
void reduce(Stream& s, const char* label, Ref<float, 1> out, Ref<const float, 1> x,
            Ref<float, 1> partials, bool accumulate) {
  KOIOS_REQUIRE(out.extent[0] == 1 && partials.extent[0] >= kSumPartials, "out has ", out.extent[0],
                ", partials ", partials.extent[0], " of ", kSumPartials);
  // Fixed by the size alone, in whole packs. The last chunk must end with one, too: a pack that
  // began in it would read on behind x.
  constexpr std::int64_t kUnit = 16;
  const std::int64_t size = x.extent[0];
  const std::int64_t chunk = std::max(kLeastChunk, round_up(ceil_div(size, kSumPartials), kUnit));
  const auto used = slice(partials, 0, ceil_div(size, chunk));
  const bool packs = detail::allows_packs(x) && size % kUnit == 0;
  detail::for_each_row<float>(s, label, used.extent[0], chunk, packs,
                              PartialSums<kSquare>{x, used, chunk});
  detail::for_each_row<float>(s, label, 1, used.extent[0], false, Total{out, used, accumulate});
}

struct ClipScale {
  using CudaShapes = detail::Shapes<>;
  Ref<float, 1> norm, scale;
  Ref<const float, 1> norm_squared;
  float max_norm;
  bool skips;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t) const {
    if (lanes.rank() != 0) return;
    const float value = Kokkos::sqrt(norm_squared[0]);
    norm[0] = value;
    if (!Kokkos::isfinite(value)) {
      const bool is_infinite = Kokkos::isinf(value);
      scale[0] = skips ? 0 : is_infinite ? kLeastNormal : value;
    } else {
      scale[0] = max_norm > 0 ? Kokkos::min(1.0F, max_norm / (value + 1e-6F)) : 1.0F;
    }
  }
};

}  // namespace

void sum(Stream& s, Ref<float, 1> out, Ref<const float, 1> x, Ref<float, 1> partials,
         bool accumulate) {
  reduce<false>(s, "sum", out, x, partials, accumulate);
}

void sum_of_squares(Stream& s, Ref<float, 1> out, Ref<const float, 1> x, Ref<float, 1> partials,
                    bool accumulate) {
  reduce<true>(s, "sum_of_squares", out, x, partials, accumulate);
}

void clip_scale(Stream& s, Ref<float, 1> norm, Ref<float, 1> scale,
                Ref<const float, 1> norm_squared, float max_norm, Nonfinite nonfinite) {
  detail::for_each_row<float>(
      s, "clip_scale", 1, 1, false,
      ClipScale{norm, scale, norm_squared, max_norm, nonfinite == Nonfinite::skip});
}

}  // namespace koios
