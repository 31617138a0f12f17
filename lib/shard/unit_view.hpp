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
  int parameter = 0;  // the first
};

/// What of a unit's weights is gathered, where the backward pass multiplies with other values than
/// the forward pass: in FP8 with scales of rows. Elsewhere one is both.
enum WeightValues : unsigned { kForwardValues = 1, kBackwardValues = 2, kAllValues = 3 };

/// A unit's matrices in FP8 (shard/fp8_weights.hpp), laid out as in its full array.
struct NarrowUnit {
  struct Scales {  // inverse ones of a parameter; those of what is stacked follow one another
    const float* straight;
    const float* turned;  // of the transpose; the same where squares or all have one
  };
  const fp8_e4m3* values = nullptr;
  const fp8_e4m3* by_column = nullptr;  // with scales of rows: the values of the transpose's rows
  std::vector<Scales> scales;
};

template <class T>
class UnitView {
 public:
  /// first: the place in the unit's full array that `full` points to.
  UnitView(const UnitLayout& layout, T* full, std::int64_t first = 0)
      : layout_(&layout), full_(full), first_(first) {}
  /// With matrices in FP8: the other parameters at full.
  UnitView(const UnitLayout& layout, T* full, std::int64_t first, NarrowUnit narrow)
      : layout_(&layout), full_(full), first_(first), narrow_(std::move(narrow)) {}

  /// Whether the parameter is to be had by narrow() alone.
  bool is_narrow(int parameter) const { return at(parameter).full_offset < first_; }
  UnitView<const fp8_e4m3> narrow() const { return {*layout_, narrow_.values}; }
  /// What is to be transposed.
  UnitView<const fp8_e4m3> narrow_to_turn() const {
    return {*layout_, narrow_.by_column != nullptr ? narrow_.by_column : narrow_.values};
  }
  const NarrowUnit::Scales& scales(int parameter) const {
    return narrow_.scales[static_cast<std::size_t>(parameter)];
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
        pieces.push_back({row, m, i});
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
  NarrowUnit narrow_;
};

}  // namespace koios
