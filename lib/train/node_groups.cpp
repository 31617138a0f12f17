#include "train/node_groups.hpp"

#include <numeric>

namespace koios {
namespace {

/// `ranks` of the run's, each `stride` behind the one before. Groups follow one another, so a node
/// whose size they do not divide cuts some of them: the smallest piece is what a ring waits for.
NodeGroup group_of(int stride, int ranks, int ranks_of_run, Nodes nodes) {
  if (ranks_of_run <= nodes.ranks) return {ranks, ranks};
  return {ranks, nodes.ranks % stride == 0 ? std::gcd(nodes.ranks / stride, ranks) : 1};
}

}  // namespace

bool NodeGroup::is_for_copies() const {
  constexpr int kMostByCopies = 16;
  return !crosses_nodes() && ranks <= kMostByCopies;
}

bool NodeGroups::copy_engines_reach() const {
  return tensor.is_for_copies() && context.is_for_copies() && shard.is_for_copies();
}

NodeGroups node_groups(const TrainingShape& shape, Nodes nodes) {
  const MeshShape& mesh = shape.mesh;
  const int tp = mesh.size(Axis::tp);
  const auto group = [&](int stride, int ranks) {
    return group_of(stride, ranks, mesh.ranks(), nodes);
  };
  return {.tensor = group(1, tp),
          .context = group(tp, mesh.size(Axis::cp)),
          .shard = group(tp, shape.shard_ranks()),
          .replicate = group(tp * shape.shard_ranks(), mesh.size(Axis::dp_replicate)),
          .stages = group(shape.first_rank(1), mesh.size(Axis::pp))};
}

}  // namespace koios
