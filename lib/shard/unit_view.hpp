// A unit's full parameters (or their full gradients) as matrices: what the model computes with.
// Under tensor parallelism "full" is this rank's part of each, gathered from the data-parallel
// ranks. In FP8 a view has the matrices as 8-bit values, and vectors as ever.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/ref.hpp"
#include "shard/layout.hpp"

namespace koios {

/// Rows [first_row, first_row + matrix.extent[0]) of several parameters stacked on each other.
template <class T>
struct StackedRows {
  std::int64_t first_row = 0;
  Ref<T, 2> matrix;
};

template <class T>
class UnitView {
 public:
  /// first: the place in the unit's full array that `full` points to.
  UnitView(const UnitLayout& layout, T* full, std::int64_t first = 0)
      : layout_(&layout), full_(full), first_(first) {}
  /// With matrices in FP8: 8-bit parameters at narrow, the others at full, and the inverse scale of
  /// each group.
  UnitView(const UnitLayout& layout, T* full, std::int64_t first, const fp8_e4m3* narrow,
           std::vector<Ref<const float, 1>> inverse_scales)
      : layout_(&layout),
        full_(full),
        first_(first),
        narrow_(narrow),
        inverse_scales_(std::move(inverse_scales)) {}

  /// Whether the parameter is to be had by narrow() alone.
  bool is_narrow(int parameter) const { return at(parameter).full_offset < first_; }
  UnitView<const fp8_e4m3> narrow() const { return {*layout_, narrow_}; }
  Ref<const float, 1> inverse_scale(int group) const {
    return inverse_scales_[static_cast<std::size_t>(group)];
  }

  Ref<T, 2> matrix(int parameter) const {
    const ParameterLayout& p = at(parameter);
    return make_ref(full_ + (p.full_offset - first_), p.rows, p.cols);
  }
  Ref<T, 1> vector(int parameter) const {
    const ParameterLayout& p = at(parameter);
    return make_ref(full_ + (p.full_offset - first_), p.rows);
  }
  /// The vector of a norm; empty where the unit ends before it (a norm without a weight).
  Ref<T, 1> norm(int parameter) const {
    const auto count = static_cast<int>(layout_->parameters.size());
    return parameter < count ? vector(parameter) : Ref<T, 1>{};
  }
  /// Parameters first..last stacked by rows; neighbours without a gap are one matrix, so a trio
  /// like wq|wk|wv is one GEMM where its rows divide by the ranks, else one each.
  std::vector<StackedRows<T>> stacked(int first, int last) const {
    std::vector<StackedRows<T>> pieces;
    std::int64_t row = 0;
    for (int i = first; i <= last; ++i) {
      const Ref<T, 2> m = matrix(i);
      if (!pieces.empty() && pieces.back().matrix.row(pieces.back().matrix.extent[0]) == m.data) {
        pieces.back().matrix.extent[0] += m.extent[0];
      } else {
        pieces.push_back({row, m});
      }
      row += m.extent[0];
    }
    return pieces;
  }

 private:
  const ParameterLayout& at(int parameter) const {
    return layout_->parameters[static_cast<std::size_t>(parameter)];
  }

  const UnitLayout* layout_;
  T* full_;
  std::int64_t first_;
  const fp8_e4m3* narrow_ = nullptr;
  std::vector<Ref<const float, 1>> inverse_scales_;
};

}  // namespace koios
