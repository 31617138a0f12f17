#include "kernels/swiglu.hpp"

#include "kernels/detail/fast_math.hpp"
#include "kernels/detail/fp8_output.hpp"
#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::Fp8Scaler;
using detail::load;
using detail::written;

template <class Pack>
KOIOS_HOST_DEVICE inline Pack swiglu(const Pack& gate, const Pack& up) {
  return gate * sigmoid(gate) * up;
}

template <class Pack>
struct Gradients {
  Pack gate, up;
};
template <class Pack>
KOIOS_HOST_DEVICE inline Gradients<Pack> gradients(const Pack& dy, const Pack& gate,
                                                   const Pack& up) {
  const Pack s = sigmoid(gate);
  const Pack silu = gate * s;
  // silu' = s (1 + gate (1 - s)) = s + silu (1 - s)
  return {dy * up * (s + silu - silu * s), dy * silu};
}

template <class T>
struct Forward {
  Ref<T, 2> y;
  Ref<const T, 2> gate, up;

  template <class Width>
  KOKKOS_FUNCTION typename Width::Pack operator()(Width width, std::int64_t n,
                                                  std::int64_t i) const {
    return written(y.row(n) + i, swiglu(load(width, gate.row(n) + i), load(width, up.row(n) + i)));
  }
};

template <class T>
struct Backward {
  Ref<T, 2> d_gate, d_up;
  Ref<const T, 2> dy, gate, up;

  template <class Width>
  KOKKOS_FUNCTION typename Width::Pack operator()(Width width, std::int64_t n,
                                                  std::int64_t i) const {
    const auto d = gradients(load(width, dy.row(n) + i), load(width, gate.row(n) + i),
                             load(width, up.row(n) + i));
    return larger_magnitude(written(d_gate.row(n) + i, d.gate), written(d_up.row(n) + i, d.up));
  }
};

template <class T>
void require_shape(const char* name, Ref<T, 2> a, std::int64_t rows, std::int64_t row_size) {
  KOIOS_REQUIRE(a.extent[0] == rows && a.extent[1] == row_size, name, " is ", a.extent[0], "x",
                a.extent[1], ", not ", rows, "x", row_size);
}

// ---- to FP8 at once: tiles, as the casts have them ----

#if defined(KOIOS_CUDA)

template <class T>
struct CudaForward {
  template <bool kPacks>
  struct Body {
    using Q = fp8_e4m3;
    using Place = detail::Place<8>;
    static constexpr int kResident = 4;
    detail::Fp8Result<Q> y;
    Ref<const T, 2> gate, up;
    Fp8Scaler<Q> scaler;
    float* amax;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ detail::TurnedTile<Q, Place> turned;
      const Place at(tile, rank, gate.extent[1]);
      auto held = detail::hold<kPacks>(gate, at).part[0];
      const auto held_up = detail::hold<kPacks>(up, at).part[0];
      const float scale = scaler.scale(0);
      if (tile == 0 && rank == 0) scaler.finish_row(0);
      KOIOS_UNROLL
      for (int i = 0; i < detail::kHeldRows; ++i) {
        held.row[i] = detail::words_of<T>(
            swiglu(detail::unpack(held.row[i]), detail::unpack(held_up.row[i])));
      }
      const float largest = detail::cast_held<kPacks>(held, y, at, scale, scaler.counters, turned);
      detail::raise_amax_of_tile<Place::kThreads>(amax, largest, rank);
      turned.template write<kPacks>(at, y.q_KN);
#endif
    }
  };
};

template <class T>
struct CudaBackward {
  template <bool kPacks>
  struct Body {
    using Q = fp8_e5m2;
    using Place = detail::Place<8>;
    static constexpr int kResident = 3;
    detail::Fp8Result<Q> d_gate, d_up;
    Ref<const T, 2> dy, gate, up;
    Fp8Scaler<Q> scaler;
    float* amax;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ detail::TurnedTile<Q, Place> turned_gate, turned_up;
      const Place at(tile, rank, dy.extent[1]);
      const auto held_dy = detail::hold<kPacks>(dy, at).part[0];
      auto held_gate = detail::hold<kPacks>(gate, at).part[0];
      auto held_up = detail::hold<kPacks>(up, at).part[0];
      const float scale = scaler.scale(0);
      if (tile == 0 && rank == 0) scaler.finish_row(0);
      KOIOS_UNROLL
      for (int i = 0; i < detail::kHeldRows; ++i) {
        const auto d = gradients(detail::unpack(held_dy.row[i]), detail::unpack(held_gate.row[i]),
                                 detail::unpack(held_up.row[i]));
        held_gate.row[i] = detail::words_of<T>(d.gate);
        held_up.row[i] = detail::words_of<T>(d.up);
      }
      const float largest = detail::larger_magnitude(
          detail::cast_held<kPacks>(held_gate, d_gate, at, scale, scaler.counters, turned_gate),
          detail::cast_held<kPacks>(held_up, d_up, at, scale, scaler.counters, turned_up));
      detail::raise_amax_of_tile<Place::kThreads>(amax, largest, rank);
      turned_gate.template write<kPacks>(at, d_gate.q_KN);
      turned_up.template write<kPacks>(at, d_up.q_KN);
#endif
    }
  };
};

#endif

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

template <class T>
void swiglu_forward_to_fp8(Stream& s, const Fp8Output<fp8_e4m3>& y, Ref<const T, 2> gate_NF,
                           Ref<const T, 2> up_NF) {
  using Q = fp8_e4m3;
  require_shape("up", up_NF, gate_NF.extent[0], gate_NF.extent[1]);
  const auto result = detail::checked_result(y, gate_NF);
  if (gate_NF.size() == 0) return;
  const Fp8Scaler<Q> scaler(y.scales, 1, y.counts);
  constexpr const char* kLabel = "swiglu_forward_to_fp8";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        detail::host_tiles(kLabel, gate_NF, [=](std::int64_t tile) {
          T made[detail::kHostTileColumns];
          detail::host_tile_rows(
              gate_NF, tile, y.amax.data, [&](auto n, auto first, auto count, auto& largest) {
                detail::host_packs(count, [&](auto width, std::int64_t i) {
                  largest.add(written(made + i, swiglu(load(width, gate_NF.row(n) + first + i),
                                                       load(width, up_NF.row(n) + first + i))));
                });
                detail::host_cast(result, n, first, made, count, scaler);
              });
          if (tile == 0) scaler.finish_row(0);
        });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        const bool packs =
            detail::tiles_allow_packs(gate_NF, y.q_NK, y.q_KN) && detail::allows_packs(up_NF);
        detail::cuda_tiles<CudaForward<T>::template Body>(exec, kLabel, gate_NF, packs, result,
                                                          gate_NF, up_NF, scaler, y.amax.data);
#endif
      });
}

template <class T>
void swiglu_backward_to_fp8(Stream& s, const Fp8Output<fp8_e5m2>& d_gate_up, Ref<const T, 2> dy_NF,
                            Ref<const T, 2> gate_NF, Ref<const T, 2> up_NF) {
  using Q = fp8_e5m2;
  const std::int64_t rows = dy_NF.extent[0];
  const std::int64_t size = dy_NF.extent[1];
  require_shape("gate", gate_NF, rows, size);
  require_shape("up", up_NF, rows, size);
  require_shape("d_gate|d_up", d_gate_up.q_NK, rows, 2 * size);
  detail::checked_result(d_gate_up, d_gate_up.q_NK);
  if (dy_NF.size() == 0) return;
  const Fp8Scaler<Q> scaler(d_gate_up.scales, 1, d_gate_up.counts);
  const auto part = [&](std::int64_t first) {
    return detail::Fp8Result<Q>{column_range(d_gate_up.q_NK, first, size),
                                row_range(d_gate_up.q_KN, first, size)};
  };
  const detail::Fp8Result<Q> d_gate = part(0), d_up = part(size);
  constexpr const char* kLabel = "swiglu_backward_to_fp8";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        detail::host_tiles(kLabel, dy_NF, [=](std::int64_t tile) {
          T of_gate[detail::kHostTileColumns], of_up[detail::kHostTileColumns];
          detail::host_tile_rows(
              dy_NF, tile, d_gate_up.amax.data, [&](auto n, auto first, auto count, auto& largest) {
                detail::host_packs(count, [&](auto width, std::int64_t i) {
                  const auto d = gradients(load(width, dy_NF.row(n) + first + i),
                                           load(width, gate_NF.row(n) + first + i),
                                           load(width, up_NF.row(n) + first + i));
                  largest.add(
                      larger_magnitude(written(of_gate + i, d.gate), written(of_up + i, d.up)));
                });
                detail::host_cast(d_gate, n, first, of_gate, count, scaler);
                detail::host_cast(d_up, n, first, of_up, count, scaler);
              });
          if (tile == 0) scaler.finish_row(0);
        });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        const bool packs = detail::tiles_allow_packs(dy_NF, d_gate.q_NK, d_gate.q_KN) &&
                           detail::allows_packs(d_up.q_NK, d_up.q_KN, gate_NF, up_NF);
        detail::cuda_tiles<CudaBackward<T>::template Body>(exec, kLabel, dy_NF, packs, d_gate, d_up,
                                                           dy_NF, gate_NF, up_NF, scaler,
                                                           d_gate_up.amax.data);
#endif
      });
}

#define KOIOS_INSTANTIATE(T)                                                                    \
  template void swiglu_forward<T>(Stream&, Ref<T, 2>, Ref<const T, 2>, Ref<const T, 2>,         \
                                  Ref<float, 1>);                                               \
  template void swiglu_backward<T>(Stream&, Ref<T, 2>, Ref<T, 2>, Ref<const T, 2>,              \
                                   Ref<const T, 2>, Ref<const T, 2>, Ref<float, 1>);            \
  template void swiglu_forward_to_fp8<T>(Stream&, const Fp8Output<fp8_e4m3>&, Ref<const T, 2>,  \
                                         Ref<const T, 2>);                                      \
  template void swiglu_backward_to_fp8<T>(Stream&, const Fp8Output<fp8_e5m2>&, Ref<const T, 2>, \
                                          Ref<const T, 2>, Ref<const T, 2>);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
