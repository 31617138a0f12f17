// Which rows of which parameter this rank holds. Every parameter is split along dim 0 into equal
// parts of s = ceil(rows / ranks) rows (FSDP2's layout); the last parts may be short or empty and
// are padded with zero rows, because a gather moves equal counts. Parameters that are gathered
// together (one transformer block) form a unit.
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

namespace koios {

/// How a parameter starts: constant `mean` where std is 0, else N(mean=0, std) cut at +-cut*std.
struct InitialValue {
  double mean = 0;
  double std = 0;
  double cut = 0;  // in units of std
};

/// A parameter as a model declares it. A vector of n is n rows of 1 column.
struct ParameterSpec {
  std::string name;  // Meta's name: layers.0.attention.wq.weight
  std::int64_t rows = 0;
  std::int64_t cols = 1;
  bool is_vector = false;
  InitialValue initial;

  std::int64_t size() const { return rows * cols; }
};

struct UnitSpec {
  std::string name;
  std::vector<ParameterSpec> parameters;
};

struct ParameterLayout {
  ParameterSpec spec;
  std::int64_t part_rows = 0;     // s, the same on every rank
  std::int64_t first_row = 0;     // of this rank
  std::int64_t rows_here = 0;     // real rows on this rank, 0..s
  std::int64_t shard_offset = 0;  // of this rank's rows in the flat shard
  std::int64_t full_offset = 0;   // of row 0 in the unit's full array

  std::int64_t part_size() const { return part_rows * spec.cols; }
};

struct UnitLayout {
  std::string name;
  std::vector<ParameterLayout> parameters;
  std::int64_t shard_offset = 0;
  std::int64_t shard_size = 0;  // with padding and alignment
  std::int64_t full_size = 0;   // with padding and alignment

  /// Payload elements of one gather or reduce-scatter of the unit (padding rows included).
  std::int64_t gathered_elements(int ranks) const;
};

class ShardLayout {
 public:
  /// Regions start at multiples of this many elements: 256 bytes in bf16.
  static constexpr std::int64_t kAlignment = 128;

  ShardLayout(const std::vector<UnitSpec>& units, int ranks, int rank);

  int ranks() const { return ranks_; }
  int rank() const { return rank_; }
  const std::vector<UnitLayout>& units() const { return units_; }
  const UnitLayout& unit(int index) const { return units_[static_cast<std::size_t>(index)]; }
  /// Elements of the flat shard.
  std::int64_t shard_size() const { return shard_size_; }
  /// Logical elements of all parameters.
  std::int64_t parameter_count() const { return parameter_count_; }

 private:
  int ranks_;
  int rank_;
  std::vector<UnitLayout> units_;
  std::int64_t shard_size_ = 0;
  std::int64_t parameter_count_ = 0;
};

}  // namespace koios
