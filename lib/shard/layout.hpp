// Which rows of which parameter this rank holds. Tensor parallelism takes its part first: equal
// ranges of rows, or of columns, or the whole (ParameterSpec::split). That part is split along dim
// 0 into equal parts of s = ceil(rows / ranks) rows (FSDP2's layout); the last parts may be short
// or empty and are padded with zero rows, because a gather moves equal counts. Parameters that are
// gathered together (one transformer block) form a unit.
//
// A rank of a pipeline's stage has no rows of the other stages' units.
//
// Two address spaces, in elements:
//   shard  this rank's rows of all parameters, one flat array: masters, moments and gradients all
//          have this layout, so the optimizer is one launch and a checkpoint is a list of slices.
//   full   one unit's gathered parameters, ranks * s rows each, in the order of the unit. Where
//          neither padding nor alignment intervenes, neighbours are contiguous, and wq|wk|wv and
//          w1|w3 are one matrix for the GEMM.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/slice.hpp"

namespace koios {

/// How a parameter starts: constant `mean` where std is 0, else N(mean=0, std) cut at +-cut*std.
struct InitialValue {
  double mean = 0;
  double std = 0;
  double cut = 0;  // in units of std
};

/// What of a parameter each rank of a tensor-parallel group has: all of it, or equal parts.
enum class Split { none, rows, columns };

/// A parameter as a model declares it, whole. A vector of n is n rows of 1 column.
struct ParameterSpec {
  std::string name;  // Meta's name: layers.0.attention.wq.weight
  std::int64_t rows = 0;
  std::int64_t cols = 1;
  bool is_vector = false;
  InitialValue initial;
  Split split = Split::none;
  /// Parameters of a unit that share the scale of their 8-bit values, which are one product:
  /// numbered from 0 in the order of the unit. -1: never 8-bit; these come last.
  int scale_group = -1;

  std::int64_t size() const { return rows * cols; }
};

/// What a unit is to the model. Blocks are alike and share gather buffers.
enum class UnitRole { embedding, block, head };

struct UnitSpec {
  std::string name;
  UnitRole role = UnitRole::block;
  std::vector<ParameterSpec> parameters;
};

struct ParameterLayout {
  ParameterSpec spec;
  std::int64_t rows = 0;         // of the tensor-parallel part, which is what is gathered
  std::int64_t cols = 0;         // of the tensor-parallel part
  std::int64_t part_rows = 0;    // s, the same on every rank
  Slice here;                    // of the whole parameter, what this rank has: 0..s rows
  Range in_shard;                // where these are in the flat shard, with padding: s rows
  std::int64_t full_offset = 0;  // of row 0 in the unit's full array

  std::int64_t part_size() const { return part_rows * cols; }
};

struct UnitLayout {
  std::string name;
  UnitRole role = UnitRole::block;
  std::int64_t layer = -1;  // of a block: which one of the model's
  bool is_held = true;      // by this rank's stage; of other units a rank has no rows
  std::vector<ParameterLayout> parameters;
  Range in_shard;              // with padding and alignment
  std::int64_t full_size = 0;  // with padding and alignment

  /// Payload elements of one gather or reduce-scatter of the unit, padding rows included.
  std::int64_t gathered_elements(int ranks) const;
};

/// A rank's place in its tensor-parallel group.
struct TensorPart {
  int ranks = 1;
  int rank = 0;
};

/// Where a rank stands among those that hold the model.
struct ShardPlace {
  int ranks = 1;  // that split the rows of one tensor-parallel part
  int rank = 0;
  TensorPart tensor = {};
  int replica = 0;  // of the copies of the model
  int stage = 0;    // of the pipeline
  /// The units that this stage holds, in order, run by run: what a micro-batch passes through at
  /// each of its visits. Empty: all, in one run.
  std::vector<std::vector<int>> runs = {};
};

class ShardLayout {
 public:
  /// Regions start at multiples of this many elements: 256 bytes in bf16.
  static constexpr std::int64_t kAlignment = 128;

  ShardLayout(const std::vector<UnitSpec>& units, const ShardPlace& place);

  int ranks() const { return place_.ranks; }
  int rank() const { return place_.rank; }
  int stage() const { return place_.stage; }
  /// Every unit of the model, whoever holds it: a unit's number is the same on all ranks.
  const std::vector<UnitLayout>& units() const { return units_; }
  const UnitLayout& unit(int index) const { return units_[static_cast<std::size_t>(index)]; }
  /// This stage's units of a role, in order.
  std::vector<int> held(UnitRole role) const;
  /// ShardPlace::runs.
  const std::vector<std::vector<int>>& runs() const { return place_.runs; }
  /// The one that has the unit, which this stage holds.
  int run_of(int unit) const;
  /// Whether the unit is the first of a run, and not of the model.
  bool takes_input(int unit) const;
  /// Whether another stage has the model's unit before this one, or after it.
  bool receives_into(int unit) const { return unit > 0 && !this->unit(unit - 1).is_held; }
  bool sends_from(int unit) const {
    return unit + 1 < static_cast<int>(units_.size()) && !this->unit(unit + 1).is_held;
  }
  /// Elements of the flat shard.
  std::int64_t shard_size() const { return shard_size_; }
  /// Logical elements of all parameters.
  std::int64_t parameter_count() const { return parameter_count_; }
  /// Whether this rank speaks for its elements of the parameter: of the ranks that hold the same
  /// ones (replicas, and the tensor-parallel ranks of a parameter that is not split) the first.
  /// Sums over all ranks, checksums and checkpoints count an element where this is so.
  bool is_first_holder(const ParameterLayout& parameter) const;
  /// The parts of the shard that this rank speaks for; on replicas after the first, none.
  std::vector<Range> counted() const;

 private:
  ShardPlace place_;
  std::vector<UnitLayout> units_;
  std::int64_t shard_size_ = 0;
  std::int64_t parameter_count_ = 0;
};

}  // namespace koios
