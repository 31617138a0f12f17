// out[j] (=|+=) sum over the rows of partial[.][j], in a fixed order: the second half of reductions
// over rows that leave one partial row per team.
#pragma once

#include "core/ref.hpp"
#include "kernels/detail/launch.hpp"

namespace koios::detail {

/// On the host: whole packs of columns.
struct ColumnSum {
  Ref<float, 1> out;
  Ref<const float, 2> partial;
  bool accumulate;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t j) const {
    auto sum = accumulate ? load(width, out.data + j) : filled(width, 0.0F);
    for (std::int64_t row = 0; row < partial.extent[0]; ++row) {
      sum = sum + load(width, partial.row(row) + j);
    }
    store(out.data + j, sum);
  }
};

#if defined(KOIOS_CUDA)
/// On CUDA: a block takes 32 columns, each warp of it some of the rows.
template <int kWarps>
struct ColumnSumTeam {
  Ref<float, 1> out;
  Ref<const float, 2> partial;
  bool accumulate;

  KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t team,
                                  [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
    __shared__ float of_warp[kWarps][kWarp];
    const int warp = rank / kWarp;
    const int lane = rank % kWarp;
    const std::int64_t j = team * kWarp + lane;
    float sum = 0;
    if (j < out.extent[0]) {
      KOIOS_UNROLL_BY(8)
      for (std::int64_t row = warp; row < partial.extent[0]; row += kWarps) sum += partial(row, j);
    }
    of_warp[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || j >= out.extent[0]) return;
    sum = accumulate ? out[j] : 0.0F;
    KOIOS_UNROLL
    for (int k = 0; k < kWarps; ++k) sum += of_warp[k][lane];
    out[j] = sum;
#endif
  }
};
#endif

inline void column_sum(Stream& s, const char* label, Ref<float, 1> out, Ref<const float, 2> partial,
                       bool accumulate) {
  if (out.extent[0] == 0) return;
#if defined(KOIOS_CUDA)
  if (s.backend() == Backend::cuda) {
    constexpr int kWarps = 16;
    cuda_teams<kWarps * kWarp>(cuda_instance(s), label, ceil_div(out.extent[0], kWarp),
                               ColumnSumTeam<kWarps>{out, partial, accumulate});
    return;
  }
#endif
  for_each_element<float>(s, label, out.extent[0], true, ColumnSum{out, partial, accumulate});
}

}  // namespace koios::detail
