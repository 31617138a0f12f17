#include "kernels/embedding.hpp"

#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;
using detail::store;

template <class T>
struct Forward {
  Ref<T, 2> y;
  Ref<const std::int32_t, 1> token;
  Ref<const T, 2> table;
  std::int64_t first;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n, std::int64_t i) const {
    const std::int64_t row = token[n] - first;
    if (row >= 0 && row < table.extent[0]) {
      store_image(y.row(n) + i, load_image(width, table.row(row) + i));
    } else {
      store(y.row(n) + i, filled(width, 0.0F));
    }
  }
};

/// Each thread owns some columns of one token's row, so that even a token of many positions keeps
/// many threads busy.
template <class T>
struct Backward {
  Ref<float, 2> d_table;
  Ref<const T, 2> dy;
  EmbeddingSort sort;
  std::int64_t first;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t segment, std::int64_t i) const {
    constexpr int kTogether = 8;  // reads under way at once; the sum itself goes in order
    const std::int64_t row = sort.token_S[segment] - first;
    if (row < 0 || row >= d_table.extent[0]) return;
    const std::int32_t end = sort.begin_S1[segment + 1];
    float* at = d_table.row(row) + i;
    auto sum = load(width, at);
    std::int32_t k = sort.begin_S1[segment];
    for (; k + kTogether <= end; k += kTogether) {
      typename Width::template Image<T> rows[kTogether];
      KOIOS_UNROLL
      for (int r = 0; r < kTogether; ++r) {
        rows[r] = load_image(width, dy.row(sort.position_N[k + r]) + i);
      }
      KOIOS_UNROLL
      for (int r = 0; r < kTogether; ++r) sum = sum + unpack(rows[r]);
    }
    for (; k < end; ++k) sum = sum + load(width, dy.row(sort.position_N[k]) + i);
    store(at, sum);
  }
};

}  // namespace

template <class T>
void embedding_forward(Stream& s, Ref<T, 2> y_ND, Ref<const std::int32_t, 1> token_N,
                       Ref<const T, 2> table_VD, std::int64_t first) {
  KOIOS_REQUIRE(y_ND.extent[0] == token_N.extent[0] && y_ND.extent[1] == table_VD.extent[1], "y ",
                y_ND.extent[0], "x", y_ND.extent[1], " for ", token_N.extent[0], " tokens of ",
                table_VD.extent[1]);
  detail::for_each_pack<T>(s, "embedding_forward", y_ND.extent[0], y_ND.extent[1],
                           detail::allows_packs(y_ND, table_VD),
                           Forward<T>{y_ND, token_N, table_VD, first});
}

template <class T>
void embedding_backward(Stream& s, Ref<float, 2> d_table_VD, Ref<const T, 2> dy_ND,
                        const EmbeddingSort& sort, std::int64_t first) {
  const std::int64_t segments = sort.token_S.extent[0];
  KOIOS_REQUIRE(d_table_VD.extent[1] == dy_ND.extent[1] &&
                    sort.position_N.extent[0] == dy_ND.extent[0] &&
                    sort.begin_S1.extent[0] == segments + 1,
                "d_table has rows of ", d_table_VD.extent[1], ", dy ", dy_ND.extent[0], "x",
                dy_ND.extent[1], ", sort ", sort.position_N.extent[0], " positions, ", segments,
                " tokens, ", sort.begin_S1.extent[0], " boundaries");
  detail::for_each_pack<T>(s, "embedding_backward", segments, dy_ND.extent[1],
                           detail::allows_packs(d_table_VD, dy_ND),
                           Backward<T>{d_table_VD, dy_ND, sort, first});
}

#define KOIOS_INSTANTIATE(T)                                                         \
  template void embedding_forward<T>(Stream&, Ref<T, 2>, Ref<const std::int32_t, 1>, \
                                     Ref<const T, 2>, std::int64_t);                 \
  template void embedding_backward<T>(Stream&, Ref<float, 2>, Ref<const T, 2>,       \
                                      const EmbeddingSort&, std::int64_t);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
