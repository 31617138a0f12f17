// Which of the ranks that communicate are on one node, where ranks lie on equal nodes in their
// order.
#pragma once

#include "train/training_shape.hpp"

namespace koios {

struct Nodes {
  int ranks = 8;  // of one node
};

/// Ranks that communicate, and how many of them are on one node.
struct NodeGroup {
  int ranks = 1;
  int per_node = 1;

  bool crosses_nodes() const { return per_node < ranks; }
  /// Whether comm/shard_transport may choose copy engines.
  bool is_for_copies() const;
};

struct NodeGroups {
  NodeGroup tensor, context, shard, replicate, stages;

  /// Whether each group whose GPUs may copy from each other is for copies, as
  /// comm/shard_transport = copy_engine insists.
  bool copy_engines_reach() const;
};

NodeGroups node_groups(const TrainingShape& shape, Nodes nodes);

}  // namespace koios
