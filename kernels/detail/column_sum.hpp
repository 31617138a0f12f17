// out[j] (=|+=) sum over the rows of partial[.][j], in a fixed order: the second half of reductions
// over rows that leave one partial row per team.
#pragma once

#include "core/ref.hpp"
#include "kernels/detail/launch.hpp"

namespace koios::detail {

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

inline void column_sum(Stream& s, const char* label, Ref<float, 1> out, Ref<const float, 2> partial,
                       bool accumulate) {
  for_each_element<float>(s, label, out.extent[0], allows_packs(out, partial),
                          ColumnSum{out, partial, accumulate});
}

}  // namespace koios::detail
