#include "comm/mesh_shape.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace koios {

int MeshShape::ranks() const {
  int product = 1;
  for (const int n : extent) product *= n;
  return product;
}

int MeshShape::coordinate(int rank, Axis axis) const {
  for (int faster = kAxes - 1; faster > static_cast<int>(axis); --faster) {
    rank /= extent[static_cast<std::size_t>(faster)];
  }
  return rank % size(axis);
}

int MeshShape::group_of(int rank, std::initializer_list<Axis> along) const {
  int group = 0;
  for (int a = 0; a < kAxes; ++a) {
    const auto axis = static_cast<Axis>(a);
    if (std::find(along.begin(), along.end(), axis) != along.end()) continue;
    group = group * size(axis) + coordinate(rank, axis);
  }
  return group;
}

int MeshShape::group_size(std::initializer_list<Axis> along) const {
  int product = 1;
  for (const Axis axis : along) product *= size(axis);
  return product;
}

int MeshShape::dp_coordinate(int rank) const {
  return coordinate(rank, Axis::dp_replicate) * size(Axis::dp_shard) +
         coordinate(rank, Axis::dp_shard);
}

std::string MeshShape::describe() const {
  const int replicate = size(Axis::dp_replicate);
  return cat(ranks(), ranks() == 1 ? " rank" : " ranks", " = pp ", size(Axis::pp), " x dp ",
             replicate == 1 ? "" : cat(replicate, " x "), size(Axis::dp_shard), " x cp ",
             size(Axis::cp), " x tp ", size(Axis::tp));
}

}  // namespace koios
