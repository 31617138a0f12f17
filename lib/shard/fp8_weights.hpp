// Weights in FP8: a block's matrices are gathered as 8-bit values, cast by each rank from its rows
// of the masters with scales that all ranks know. Vectors stay in the compute type. A unit's
// gathered memory is
//   [ 8-bit parameters, one byte an element | with scales of rows: the same by column, which the
//     backward pass asks for | the others, in the compute type ]
// Which elements share a scale:
//   matrix  the parameters that are one product (ParameterSpec::scale_group)
//   row     a row; and, in values of their own, a column of what is one matrix in the gathered
//           memory: the rows of its transpose, which the input gradient multiplies with
//   square  128 x 128, which lie within one parameter: its rows are a multiple of 128
// The scales come from the largest magnitudes (amax) of the masters, found after an update by a
// pass of their own. (8 layers of 7B on one H200: update and pass 14.1 ms; an update that found
// them while it wrote the masters 17.3 ms.) comm: one all-reduce of all of them over the ranks that
// share the rows; matrix: and over those that share the tensor-parallel parts.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "comm/communicator.hpp"
#include "core/ref.hpp"
#include "kernels/adamw.hpp"
#include "kernels/fp8.hpp"
#include "runtime/arena.hpp"
#include "runtime/stream.hpp"
#include "shard/layout.hpp"
#include "shard/unit_view.hpp"

namespace koios {

/// Elements of the unit's full array that may be 8-bit ones: they come first.
std::int64_t narrow_elements(const UnitLayout& unit);
/// How many 8-bit values there are for each of these elements, or for some of the WeightValues.
constexpr int narrow_values(Fp8ScaleKind kind, unsigned values = kAllValues) {
  return kind == Fp8ScaleKind::row && values == kAllValues ? 2 : 1;
}

/// Where the scales of parameters lie among all those of a rank.
struct ScalePlaces {
  struct Of {
    std::int64_t straight = -1;
    std::int64_t turned = -1;  // row: of the columns
  };
  std::vector<std::vector<Of>> parameter;  // by unit; -1 where there are none
  std::int64_t scales = 0;                 // of all

  ScalePlaces(const ShardLayout& layout, Fp8ScaleKind kind);
  const Of& of(int unit, int parameter_of_unit) const {
    return parameter[static_cast<std::size_t>(unit)][static_cast<std::size_t>(parameter_of_unit)];
  }
};

/// Bytes of scales that one all-reduce brings together.
std::int64_t shared_scale_bytes(const ShardLayout& layout, Fp8ScaleKind kind);

struct WeightScaleBuffers {
  Fp8ScaleKind kind;
  Ref<float, 1> amax;  // row, square: and then the scales
  Ref<float, 1> inverse;

  WeightScaleBuffers(Arena& arena, const ShardLayout& layout, Fp8ScaleKind kind);
};

class WeightScales {
 public:
  /// rows, parts: the ranks that share the rows of a parameter, and those that share its
  /// tensor-parallel parts.
  WeightScales(const ShardLayout& layout, const WeightScaleBuffers& buffers,
               Ref<const float, 1> masters, Communicator& rows, Communicator& parts,
               Stream& compute);

  /// After the masters were made, loaded or updated: finds the amax of this rank's rows, and ...
  void look();
  /// ... brings those of all ranks together.
  void share();
  bool is_known() const { return known_; }

  /// Casts this rank's rows of an 8-bit parameter into their place in the unit's gathered memory.
  /// Returns where the parameter's values begin: the WeightValues asked for.
  std::vector<fp8_e4m3*> cast_mine(Stream& s, int unit, int parameter, fp8_e4m3* gathered,
                                   unsigned values) const;
  /// What a unit's gathered memory holds.
  NarrowUnit view(int unit, const fp8_e4m3* gathered) const;
  Fp8ScaleKind kind() const { return buffers_.kind; }

 private:
  Ref<const float, 2> mine(const ParameterLayout& p) const;
  const ParameterLayout& layout_of(int unit, int parameter) const {
    return layout_.unit(unit).parameters[static_cast<std::size_t>(parameter)];
  }
  /// Scales of all rows of a parameter, padding included, and of its columns.
  template <class T>
  Ref<T, 1> of_rows(Ref<T, 1> scales, int unit, int parameter) const {
    const ParameterLayout& p = layout_of(unit, parameter);
    return slice(scales, places_.of(unit, parameter).straight, p.part_rows * layout_.ranks());
  }
  template <class T>
  Ref<T, 1> of_columns(Ref<T, 1> scales, int unit, int parameter) const {
    return slice(scales, places_.of(unit, parameter).turned, layout_of(unit, parameter).cols);
  }
  Ref<float, 2> of_squares(Ref<float, 1> scales, int unit, int parameter) const {
    const ParameterLayout& p = layout_of(unit, parameter);
    return fp8_scales(scales.data + places_.of(unit, parameter).straight, p.rows, p.cols,
                      Fp8ScaleKind::square);
  }
  /// f(unit, parameter) for all 8-bit parameters here.
  template <class F>
  void each_narrow(const F& f) const;

  const ShardLayout& layout_;
  ScalePlaces places_;
  WeightScaleBuffers buffers_;
  Ref<const float, 1> masters_;
  Communicator& rows_;
  Communicator& parts_;
  Stream& compute_;
  bool known_ = false;
};

}  // namespace koios
