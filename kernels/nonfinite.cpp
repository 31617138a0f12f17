#include "kernels/nonfinite.hpp"

#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;

/// Rows that one stretch is split into, so that a long one is not one row's work.
constexpr std::int64_t kPieces = 4;
constexpr std::int64_t kLeastPiece = 4096;  // elements

/// By the bits: it holds under every floating-point option of the compiler. Lanes add up floats,
/// which count to 2^24: so piece by piece.
template <class Lanes, class T>
KOKKOS_FUNCTION std::int32_t nonfinite_of(const Lanes& lanes, const T* x, std::int64_t size) {
  constexpr std::int64_t kExact = std::int64_t{1} << 24;
  std::int32_t found = 0;
  for (std::int64_t begin = 0; begin < size; begin += kExact) {
    float mine = 0;
    lanes.each(Kokkos::min(size - begin, kExact), [&](auto width, int, std::int64_t i) {
      const auto pack = load(width, x + begin + i);
      for (int k = 0; k < static_cast<int>(sizeof(pack) / sizeof(float)); ++k) {
        const float value = pack.v[k];
        const auto bits = __builtin_bit_cast(std::uint32_t, value);
        mine += (bits & 0x7f800000U) == 0x7f800000U ? 1.0F : 0.0F;
      }
    });
    found += static_cast<std::int32_t>(lanes.sum(mine));
  }
  return found;
}

KOKKOS_INLINE_FUNCTION void add_to(std::int32_t* count, std::int32_t found) {
  if (found > 0) Kokkos::atomic_add(count, found);
}

template <class T>
struct CountNonfinite {
  using CudaShapes = detail::Shapes<>;
  Ref<std::int32_t, 1> count;
  Ref<const T, 2> x;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t row) const {
    const std::int32_t found = nonfinite_of(lanes, x.row(row), x.extent[1]);
    if (lanes.rank() == 0) add_to(count.data, found);
  }
};

struct CountNonfiniteIf {
  using CudaShapes = detail::Shapes<>;
  Ref<std::int32_t, 1> count;
  Stretches stretches;
  Ref<const std::int32_t, 1> gate;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t row) const {
    if (gate[0] != 1) return;
    const std::int64_t stretch = row / kPieces;
    const auto* x = reinterpret_cast<const float*>(stretches(stretch, 0));
    const std::int64_t size = stretches(stretch, 1);
    const std::int64_t piece =
        Kokkos::max((size + kPieces - 1) / kPieces, std::int64_t{kLeastPiece});
    const std::int64_t begin = row % kPieces * piece;
    if (begin >= size) return;
    const std::int32_t found = nonfinite_of(lanes, x + begin, Kokkos::min(piece, size - begin));
    if (lanes.rank() == 0) add_to(count.data + stretch, found);
  }
};

struct OpenGate {
  using CudaShapes = detail::Shapes<>;
  Ref<std::int32_t, 1> gate;
  Ref<const float, 1> value;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t) const {
    if (lanes.rank() != 0) return;
    if (gate[0] != 0) {
      gate[0] = 2;
    } else if (!Kokkos::isfinite(value[0])) {
      gate[0] = 1;
    }
  }
};

struct Spoil {
  using CudaShapes = detail::Shapes<>;
  Ref<float, 1> sum;
  Ref<const float, 1> value;

  template <class Lanes>
  KOKKOS_FUNCTION void operator()(const Lanes& lanes, std::int64_t) const {
    if (lanes.rank() != 0 || Kokkos::isfinite(value[0])) return;
    sum[0] = value[0] - value[0];  // NaN, as infinity minus itself is
  }
};

}  // namespace

template <class T>
void count_nonfinite(Stream& s, Ref<std::int32_t, 1> count, Ref<const T, 2> x) {
  // Not in packs: rows may end anywhere.
  detail::for_each_row<T>(s, "count_nonfinite", x.extent[0], x.extent[1], false,
                          CountNonfinite<T>{count, x});
}

void count_nonfinite_if(Stream& s, Ref<std::int32_t, 1> count, const Stretches& stretches,
                        Ref<const std::int32_t, 1> gate) {
  KOIOS_REQUIRE(stretches.extent[1] == 2 && stretches.extent[0] == count.size(),
                stretches.extent[0], "x", stretches.extent[1], " stretches, ", count.size(),
                " counts");
  detail::for_each_row<float>(s, "count_nonfinite_if", count.size() * kPieces, kLeastPiece, false,
                              CountNonfiniteIf{count, stretches, gate});
}

void open_gate(Stream& s, Ref<std::int32_t, 1> gate, Ref<const float, 1> value) {
  detail::for_each_row<float>(s, "open_gate", 1, 1, false, OpenGate{gate, value});
}

void spoil(Stream& s, Ref<float, 1> sum, Ref<const float, 1> value) {
  detail::for_each_row<float>(s, "spoil", 1, 1, false, Spoil{sum, value});
}

template void count_nonfinite<float>(Stream&, Ref<std::int32_t, 1>, Ref<const float, 2>);
template void count_nonfinite<bf16>(Stream&, Ref<std::int32_t, 1>, Ref<const bf16, 2>);

}  // namespace koios
