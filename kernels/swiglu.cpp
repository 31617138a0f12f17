#include "kernels/swiglu.hpp"

#include "kernels/detail/fast_math.hpp"
#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;
using detail::written;

template <class T>
struct Forward {
  Ref<T, 2> y;
  Ref<const T, 2> gate, up;

  template <class Width>
  KOKKOS_FUNCTION typename Width::Pack operator()(Width width, std::int64_t n,
                                                  std::int64_t i) const {
    const auto g = load(width, gate.row(n) + i);
    return written(y.row(n) + i, g * sigmoid(g) * load(width, up.row(n) + i));
  }
};

template <class T>
struct Backward {
  Ref<T, 2> d_gate, d_up;
  Ref<const T, 2> dy, gate, up;

  template <class Width>
  KOKKOS_FUNCTION typename Width::Pack operator()(Width width, std::int64_t n,
                                                  std::int64_t i) const {
    const auto g = load(width, gate.row(n) + i);
    const auto u = load(width, up.row(n) + i);
    const auto d = load(width, dy.row(n) + i);
    const auto s = sigmoid(g);
    const auto silu = g * s;
    // silu' = s (1 + gate (1 - s)) = s + silu (1 - s)
    return larger_magnitude(written(d_gate.row(n) + i, d * u * (s + silu - silu * s)),
                            written(d_up.row(n) + i, d * silu));
  }
};

template <class T>
void require_shape(const char* name, Ref<T, 2> a, std::int64_t rows, std::int64_t row_size) {
  KOIOS_REQUIRE(a.extent[0] == rows && a.extent[1] == row_size, name, " is ", a.extent[0], "x",
                a.extent[1], ", not ", rows, "x", row_size);
}

}  // namespace

template <class T>
void swiglu_forward(Stream& s, Ref<T, 2> y_NF, Ref<const T, 2> gate_NF, Ref<const T, 2> up_NF,
                    Ref<float, 1> amax) {
  const std::int64_t rows = y_NF.extent[0];
  const std::int64_t size = y_NF.extent[1];
  require_shape("gate", gate_NF, rows, size);
  require_shape("up", up_NF, rows, size);
  detail::for_each_pack_with_amax<T>(s, "swiglu_forward", rows, size,
                                     detail::allows_packs(y_NF, gate_NF, up_NF), amax,
                                     Forward<T>{y_NF, gate_NF, up_NF});
}

template <class T>
void swiglu_backward(Stream& s, Ref<T, 2> d_gate_NF, Ref<T, 2> d_up_NF, Ref<const T, 2> dy_NF,
                     Ref<const T, 2> gate_NF, Ref<const T, 2> up_NF, Ref<float, 1> amax) {
  const std::int64_t rows = dy_NF.extent[0];
  const std::int64_t size = dy_NF.extent[1];
  require_shape("gate", gate_NF, rows, size);
  require_shape("up", up_NF, rows, size);
  require_shape("d_gate", d_gate_NF, rows, size);
  require_shape("d_up", d_up_NF, rows, size);
  detail::for_each_pack_with_amax<T>(
      s, "swiglu_backward", rows, size,
      detail::allows_packs(d_gate_NF, d_up_NF, dy_NF, gate_NF, up_NF), amax,
      Backward<T>{d_gate_NF, d_up_NF, dy_NF, gate_NF, up_NF});
}

#define KOIOS_INSTANTIATE(T)                                                            \
  template void swiglu_forward<T>(Stream&, Ref<T, 2>, Ref<const T, 2>, Ref<const T, 2>, \
                                  Ref<float, 1>);                                       \
  template void swiglu_backward<T>(Stream&, Ref<T, 2>, Ref<T, 2>, Ref<const T, 2>,      \
                                   Ref<const T, 2>, Ref<const T, 2>, Ref<float, 1>);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
