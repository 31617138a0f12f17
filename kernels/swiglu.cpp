#include "kernels/swiglu.hpp"

#include "kernels/detail/fast_math.hpp"
#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;
using detail::store;

template <class T>
struct Forward {
  Ref<T, 2> y;
  Ref<const T, 2> gate_up;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n, std::int64_t i) const {
    const T* at = gate_up.row(n) + i;
    const auto gate = load(width, at);
    const auto up = load(width, at + y.extent[1]);
    store(y.row(n) + i, gate * sigmoid(gate) * up);
  }
};

template <class T>
struct Backward {
  Ref<T, 2> d_gate_up;
  Ref<const T, 2> dy, gate_up;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n, std::int64_t i) const {
    const std::int64_t half = dy.extent[1];
    const T* at = gate_up.row(n) + i;
    const auto gate = load(width, at);
    const auto up = load(width, at + half);
    const auto d = load(width, dy.row(n) + i);
    const auto s = sigmoid(gate);
    const auto silu = gate * s;
    // silu' = s (1 + gate (1 - s)) = s + silu (1 - s)
    store(d_gate_up.row(n) + i, d * up * (s + silu - silu * s));
    store(d_gate_up.row(n) + half + i, d * silu);
  }
};

/// The second half of a row starts at a pack's boundary only if the first half is whole packs.
template <class T, class... Refs>
bool halves_allow_packs(std::int64_t half, const Refs&... refs) {
  return half % (16 / std::int64_t{sizeof(T)}) == 0 && detail::allows_packs(refs...);
}

}  // namespace

template <class T>
void swiglu_forward(Stream& s, Ref<T, 2> y_NF, Ref<const T, 2> gate_up_N2F) {
  const std::int64_t rows = y_NF.extent[0];
  const std::int64_t half = y_NF.extent[1];
  KOIOS_REQUIRE(gate_up_N2F.extent[0] == rows && gate_up_N2F.extent[1] == 2 * half, "gate|up is ",
                gate_up_N2F.extent[0], "x", gate_up_N2F.extent[1], ", y ", rows, "x", half);
  detail::for_each_pack<T>(s, "swiglu_forward", rows, half,
                           halves_allow_packs<T>(half, y_NF, gate_up_N2F),
                           Forward<T>{y_NF, gate_up_N2F});
}

template <class T>
void swiglu_backward(Stream& s, Ref<T, 2> d_gate_up_N2F, Ref<const T, 2> dy_NF,
                     Ref<const T, 2> gate_up_N2F) {
  const std::int64_t rows = dy_NF.extent[0];
  const std::int64_t half = dy_NF.extent[1];
  for (const auto& [name, a] : {std::pair<const char*, Ref<const T, 2>>{"gate|up", gate_up_N2F},
                                {"d_gate|up", d_gate_up_N2F}}) {
    KOIOS_REQUIRE(a.extent[0] == rows && a.extent[1] == 2 * half, name, " is ", a.extent[0], "x",
                  a.extent[1], ", dy ", rows, "x", half);
  }
  detail::for_each_pack<T>(s, "swiglu_backward", rows, half,
                           halves_allow_packs<T>(half, d_gate_up_N2F, dy_NF, gate_up_N2F),
                           Backward<T>{d_gate_up_N2F, dy_NF, gate_up_N2F});
}

#define KOIOS_INSTANTIATE(T)                                            \
  template void swiglu_forward<T>(Stream&, Ref<T, 2>, Ref<const T, 2>); \
  template void swiglu_backward<T>(Stream&, Ref<T, 2>, Ref<const T, 2>, Ref<const T, 2>);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
