#include "kernels/rope.hpp"

#include "kernels/detail/divider.hpp"
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

#define KOIOS_INSTANTIATE(T)                                              \
  template void rope_forward<T>(Stream&, Ref<T, 2>, Ref<const float, 2>); \
  template void rope_backward<T>(Stream&, Ref<T, 2>, Ref<const float, 2>, Ref<float, 1>);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
