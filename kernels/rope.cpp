#include "kernels/rope.hpp"

#include <vector>

#include "kernels/detail/divider.hpp"
#include "kernels/detail/fp8_output.hpp"
#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

struct Table {
  Ref<float, 2> table;
  double theta;
  std::int64_t first;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width, std::int64_t t, std::int64_t i) const {
    for (std::int64_t k = i; k < i + Width::size; k += 2) {
      const double power = static_cast<double>(k) / static_cast<double>(table.extent[1]);
      const double angle = static_cast<double>(first + t) * Kokkos::pow(theta, -power);
      table(t, k) = static_cast<float>(Kokkos::cos(angle));
      table(t, k + 1) = static_cast<float>(Kokkos::sin(angle));
    }
  }
};

/// Row j is head j % heads of token j / heads.
template <class T>
struct Turn {
  Ref<T, 2> x;
  Ref<const float, 2> table;
  detail::Divider heads, seq_len;
  float direction;

  template <class Width>
  KOKKOS_FUNCTION typename Width::Pack operator()(Width width, std::int64_t j,
                                                  std::int64_t i) const {
    const std::int64_t n = heads.quotient(j);
    const float* angle = table.row(seq_len.remainder(n)) + i;
    T* at = x.row(n) + heads.remainder(j) * table.extent[1] + i;
    return written(at, turn_pairs(load(width, at), load(width, angle), direction));
  }
};

template <class T>
void turn(Stream& s, const char* label, Ref<T, 2> x, Ref<const float, 2> table, float direction,
          Ref<float, 1> amax = {}) {
  const std::int64_t tokens = x.extent[0];
  const std::int64_t seq_len = table.extent[0];
  const std::int64_t head_dim = table.extent[1];
  KOIOS_REQUIRE(head_dim > 0 && head_dim % 2 == 0 && x.extent[1] % head_dim == 0, "rows of ",
                x.extent[1], " are not whole heads of ", head_dim);
  if (x.size() == 0) return;
  const std::int64_t heads = x.extent[1] / head_dim;
  detail::for_each_pack_with_amax<T, 2>(
      s, label, tokens * heads, head_dim, detail::allows_packs(x, table), amax,
      Turn<T>{x, table, detail::Divider(heads), detail::Divider(seq_len), direction});
}

/// On the host: row n of x, the first `turned` columns turned back, as above.
template <class T>
struct HostTurnBack {
  Ref<const T, 2> x;
  std::int64_t turned;
  Ref<const float, 2> table;

  void operator()(std::int64_t n, T* row, detail::HostLane::Magnitude& largest) const {
    const std::int64_t head_dim = table.extent[1];
    const float* angles = table.row(n % table.extent[0]);
    for (std::int64_t head = 0; head < turned; head += head_dim) {
      const auto turn = [&](auto width, std::int64_t i) {
        largest.add(written(row + head + i, turn_pairs(load(width, x.row(n) + head + i),
                                                       load(width, angles + i), -1.0F)));
      };
      std::int64_t i = 0;
      for (; i + detail::kSimdFloats <= head_dim; i += detail::kSimdFloats) {
        turn(detail::HostLane::Simd{}, i);
      }
      for (; i < head_dim; i += 2) turn(detail::ArrayWidth<2>{}, i);
    }
    for (std::int64_t k = turned; k < x.extent[1]; ++k) {
      row[k] = x(n, k);
      largest.add(load(detail::Scalar{}, row + k));
    }
  }
};

#if defined(KOIOS_CUDA)

template <class T>
struct CudaTurnBack {
  template <bool kPacks>
  struct Body {
    using Q = fp8_e5m2;
    using Place = detail::Place<8>;
    static constexpr int kResident = 4;
    detail::Fp8Result<Q> q;
    Ref<const T, 2> x;
    std::int64_t turned;
    Ref<const float, 2> table;
    detail::Divider head_dim, seq_len;
    detail::Fp8Scaler<Q> scaler;
    float* amax;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ detail::TurnedTile<Q, Place> tile_turned;
      const Place at(tile, rank, x.extent[1]);
      auto held = detail::hold<kPacks>(x, at).part[0];
      const float scale = scaler.scale(0);
      if (tile == 0 && rank == 0) scaler.finish_row(0);
      if (at.k() < turned) {
        KOIOS_UNROLL
        for (int i = 0; i < detail::kHeldRows; ++i) turn_back(held.row[i], at.n() + i, at.k());
      }
      const float largest =
          detail::cast_held<kPacks>(held, q, at, scale, scaler.counters, tile_turned);
      detail::raise_amax_of_tile<Place::kThreads>(amax, largest, rank);
      tile_turned.template write<kPacks>(at, q.q_KN);
#endif
    }

#if defined(__CUDACC__)
   private:
    __device__ void turn_back(detail::Words<T, Place::V>& words, std::int64_t n,
                              std::int64_t k) const {
      constexpr detail::ArrayWidth<Place::V> kWidth;
      const float* angles = table.row(seq_len.remainder(n));
      const auto values = unpack(words);
      if constexpr (kPacks) {  // all of one head
        const auto angle = load(kWidth, angles + head_dim.remainder(k));
        words = detail::words_of<T>(turn_pairs(values, angle, -1.0F));
      } else {
        const auto angle = generate(
            kWidth, [&](int j) { return k + j < turned ? angles[head_dim.remainder(k + j)] : 0; });
        const auto result = turn_pairs(values, angle, -1.0F);
        words = detail::words_of<T>(
            generate(kWidth, [&](int j) { return k + j < turned ? result.v[j] : values.v[j]; }));
      }
    }
#endif
  };
};

#endif

}  // namespace

void rope_table(Stream& s, Ref<float, 2> table_TE, double theta, std::int64_t first) {
  KOIOS_REQUIRE(table_TE.extent[1] % 2 == 0, "heads of ", table_TE.extent[1]);
  detail::for_each_pack<float, 2>(s, "rope_table", table_TE.extent[0], table_TE.extent[1], false,
                                  Table{table_TE, theta, first});
}

template <class T>
void rope_forward(Stream& s, Ref<T, 2> x, Ref<const float, 2> table_TE) {
  turn(s, "rope_forward", x, table_TE, 1.0F);
}

template <class T>
void rope_backward(Stream& s, Ref<T, 2> dx, Ref<const float, 2> table_TE, Ref<float, 1> amax) {
  turn(s, "rope_backward", dx, table_TE, -1.0F, amax);
}

template <class T>
void rope_backward_to_fp8(Stream& s, const Fp8Output<fp8_e5m2>& q, Ref<const T, 2> dx,
                          std::int64_t turned, Ref<const float, 2> table_TE) {
  using Q = fp8_e5m2;
  const std::int64_t head_dim = table_TE.extent[1];
  KOIOS_REQUIRE(
      head_dim > 0 && head_dim % 2 == 0 && turned % head_dim == 0 && turned <= dx.extent[1], turned,
      " of ", dx.extent[1], " columns are not whole heads of ", head_dim);
  const auto result = detail::checked_result(q, dx);
  if (dx.size() == 0) return;
  const detail::Fp8Scaler<Q> scaler(q.scales, 1, q.counts);
  constexpr const char* kLabel = "rope_backward_to_fp8";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        const HostTurnBack<T> turn_back{dx, turned, table_TE};
        detail::host_rows(kLabel, dx.extent[0], dx.extent[1],
                          [=](const detail::HostLane&, std::int64_t n) {
                            std::vector<T> row(static_cast<std::size_t>(dx.extent[1]));
                            detail::HostLane::Magnitude largest;
                            turn_back(n, row.data(), largest);
                            detail::host_cast(result, n, 0, row.data(), dx.extent[1], scaler);
                            detail::raise_magnitude(q.amax.data, largest.value());
                            if (n == 0) scaler.finish_row(0);
                          });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        const bool packs = detail::tiles_allow_packs(dx, result.q_NK, result.q_KN) &&
                           detail::allows_packs(table_TE) && head_dim % 8 == 0;
        detail::cuda_tiles<CudaTurnBack<T>::template Body>(
            exec, kLabel, dx, packs, result, dx, turned, table_TE, detail::Divider(head_dim),
            detail::Divider(table_TE.extent[0]), scaler, q.amax.data);
#endif
      });
}

#define KOIOS_INSTANTIATE(T)                                                                  \
  template void rope_forward<T>(Stream&, Ref<T, 2>, Ref<const float, 2>);                     \
  template void rope_backward<T>(Stream&, Ref<T, 2>, Ref<const float, 2>, Ref<float, 1>);     \
  template void rope_backward_to_fp8<T>(Stream&, const Fp8Output<fp8_e5m2>&, Ref<const T, 2>, \
                                        std::int64_t, Ref<const float, 2>);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
