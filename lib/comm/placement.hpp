// Where the groups of a mesh lie among the nodes: said at the start, since a group that exchanges
// much and crosses nodes costs every step.
#pragma once

#include <string>
#include <vector>

#include "comm/mesh_shape.hpp"

namespace koios {

struct Placement {
  std::vector<std::string> lines;     // nothing where there is one node
  std::vector<std::string> warnings;  // of groups that cross nodes and need not
};

/// nodes: of each rank, the name of its node. A group need not cross nodes where its size divides
/// the ranks of every node: placed node by node, it is on one.
Placement find_placement(const MeshShape& shape, const std::vector<std::string>& nodes);

}  // namespace koios
