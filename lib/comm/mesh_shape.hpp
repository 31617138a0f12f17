// The process mesh as numbers alone: how many ranks along each axis, and where a rank sits.
// rank = (((pp*DR + dr)*DS + ds)*CP + cp)*TP + tp: tp is the fastest, so tensor-parallel
// neighbours share a node. (torchtitan's mesh is dp, tp, pp with pp the fastest.)
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <string>

namespace koios {

enum class Axis { pp, dp_replicate, dp_shard, cp, tp };
inline constexpr int kAxes = 5;

struct MeshShape {
  std::array<int, kAxes> extent = {1, 1, 1, 1, 1};

  int size(Axis axis) const { return extent[static_cast<std::size_t>(axis)]; }
  int ranks() const;
  /// Coordinate of `rank` along `axis`.
  int coordinate(int rank, Axis axis) const;
  /// Number of the group that `rank` belongs to when the axes in `along` vary within groups and
  /// the others tell groups apart.
  int group_of(int rank, std::initializer_list<Axis> along) const;
  /// Ranks in each of these groups.
  int group_size(std::initializer_list<Axis> along) const;
  /// Number of ranks that hold different samples: dp_replicate * dp_shard.
  int dp() const { return size(Axis::dp_replicate) * size(Axis::dp_shard); }
  /// Which part of the global batch `rank` reads, in [0, dp()).
  int dp_coordinate(int rank) const;
  /// "8 ranks = pp 1 x dp 4 x cp 1 x tp 2".
  std::string describe() const;
};

}  // namespace koios
