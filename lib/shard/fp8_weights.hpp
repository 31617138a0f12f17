// Weights in FP8: a block's matrices are gathered as 8-bit values, one scale for the parameters
// that are one product (ParameterSpec::scale_group), so that all ranks cast with the same scale and
// a gather moves bytes. Vectors stay in the compute type. A unit's gathered memory is
//   [ 8-bit parameters, one byte an element | the others, in the compute type ]
// The scales come from the largest magnitude (amax) of the masters, which the optimizer finds while
// it writes them; comm: one all-reduce of all of them over the ranks that share the parameters.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.hpp"
#include "core/ref.hpp"
#include "kernels/adamw.hpp"
#include "kernels/fp8.hpp"
#include "runtime/arena.hpp"
#include "runtime/stream.hpp"
#include "shard/layout.hpp"

namespace koios {

/// Elements of the unit's full array that may be 8-bit ones: they come first.
std::int64_t narrow_elements(const UnitLayout& unit);

/// The flat shard cut where parameters that share a scale begin and end.
struct ScaleRanges {
  std::vector<std::int64_t> begin;         // and the end of the last
  std::vector<std::vector<int>> of_group;  // by unit and scale group: which range

  explicit ScaleRanges(const ShardLayout& layout);
  std::int64_t count() const { return std::ssize(begin) - 1; }
};

struct WeightScaleBuffers {
  Ref<std::int64_t, 1> begin;
  Ref<float, 1> amax, inverse;

  WeightScaleBuffers(Arena& arena, const ShardLayout& layout);
};

class WeightScales {
 public:
  /// rows, parts: the ranks that share the rows of a parameter, and those that share its
  /// tensor-parallel parts.
  WeightScales(const ShardLayout& layout, const WeightScaleBuffers& buffers,
               Ref<const float, 1> masters, Communicator& rows, Communicator& parts,
               Stream& compute);

  /// Finds all amaxes in a pass of its own, after the masters were made or loaded.
  void find();
  bool is_known() const { return known_; }
  /// For an update that raises the amaxes from zero as it writes the masters ...
  AmaxRanges begin_update();
  /// ... and once it is enqueued.
  void end_update();

  Ref<const float, 1> amax(int unit, int group) const { return slice(amax_, at(unit, group), 1); }
  /// Written by the cast of the weights.
  Ref<float, 1> inverse(int unit, int group) const {
    return slice(buffers_.inverse, at(unit, group) * kFp8ScalePitch, 1);
  }

 private:
  std::int64_t at(int unit, int group) const {
    return ranges_.of_group[static_cast<std::size_t>(unit)][static_cast<std::size_t>(group)];
  }
  void share();

  ScaleRanges ranges_;
  WeightScaleBuffers buffers_;
  Ref<const float, 1> amax_;
  Ref<const float, 1> masters_;
  Communicator& rows_;
  Communicator& parts_;
  Stream& compute_;
  bool known_ = false;
};

}  // namespace koios
