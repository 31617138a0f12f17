#include "comm/placement.hpp"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <set>

#include "comm/verdict.hpp"
#include "core/error.hpp"

namespace koios {
namespace {

constexpr std::size_t kNodesShown = 8;

/// One kind of group, as placed.
struct Crossing {
  int nodes = 1;                  // of the group that is on most
  int first_rank = 0, other = 0;  // two of its ranks on different nodes
};

Crossing most_crossing(const MeshShape& shape, const std::vector<std::string>& nodes,
                       std::initializer_list<Axis> along) {
  std::map<int, std::vector<int>> groups;
  for (int rank = 0; rank < shape.ranks(); ++rank) {
    groups[shape.group_of(rank, along)].push_back(rank);
  }
  const auto node = [&](int rank) { return nodes[static_cast<std::size_t>(rank)]; };
  Crossing most;
  for (const auto& [group, ranks] : groups) {
    std::set<std::string> names;
    for (const int rank : ranks) names.insert(node(rank));
    if (static_cast<int>(names.size()) <= most.nodes) continue;
    const auto other = std::find_if(ranks.begin(), ranks.end(),
                                    [&](int rank) { return node(rank) != node(ranks.front()); });
    most = {static_cast<int>(names.size()), ranks.front(), *other};
  }
  return most;
}

/// The number of ranks of each node, where all have as many; else 0.
int ranks_of_each(const std::map<std::string, std::vector<int>>& by_node) {
  const std::size_t first = by_node.begin()->second.size();
  const bool are_equal = std::all_of(by_node.begin(), by_node.end(),
                                     [&](const auto& node) { return node.second.size() == first; });
  return are_equal ? static_cast<int>(first) : 0;
}

}  // namespace

Placement find_placement(const MeshShape& shape, const std::vector<std::string>& nodes) {
  using enum Axis;
  KOIOS_REQUIRE(static_cast<int>(nodes.size()) == shape.ranks(), nodes.size(), " nodes of ",
                shape.ranks(), " ranks");
  std::map<std::string, std::vector<int>> by_node;
  std::vector<std::string> order;
  for (int rank = 0; rank < shape.ranks(); ++rank) {
    const std::string& node = nodes[static_cast<std::size_t>(rank)];
    if (by_node[node].empty()) order.push_back(node);
    by_node[node].push_back(rank);
  }
  Placement placement;
  if (by_node.size() == 1) return placement;

  std::string list;
  for (std::size_t i = 0; i < std::min(order.size(), kNodesShown); ++i) {
    list += cat(i == 0 ? "" : "; ", order[i], ": ", name_ranks(by_node[order[i]]));
  }
  if (order.size() > kNodesShown) list += "; ...";
  placement.lines.push_back(cat(order.size(), " nodes (", list, ")"));

  const int tensor = shape.size(tp);
  const int copy = shape.size(dp_shard) * shape.size(cp) * tensor;  // neighbouring ranks
  const int stage = copy * shape.size(dp_replicate);
  std::string groups;
  // neighbours: a run of ranks that holds whole groups; 0: these may cross nodes.
  const auto add = [&](const char* name, std::initializer_list<Axis> along, int neighbours) {
    if (shape.group_size(along) == 1) return;
    const Crossing crossing = most_crossing(shape, nodes, along);
    groups += cat(groups.empty() ? "" : ", ", name,
                  crossing.nodes == 1 ? " within a node" : cat(" over ", crossing.nodes, " nodes"));
    const bool must_cross =
        neighbours == 0 || std::any_of(by_node.begin(), by_node.end(), [&](const auto& node) {
          return static_cast<int>(node.second.size()) % neighbours != 0;
        });
    if (crossing.nodes == 1 || must_cross) return;
    placement.warnings.push_back(
        cat(name, " cross nodes and need not: ranks ", crossing.first_rank, " and ", crossing.other,
            " are on ", nodes[static_cast<std::size_t>(crossing.first_rank)], " and ",
            nodes[static_cast<std::size_t>(crossing.other)],
            "; place ranks node by node (srun --distribution=block, mpirun --map-by slot)"));
  };
  add("tensor-parallel groups", {tp}, tensor);
  add("context-parallel groups", {cp}, shape.size(cp) * tensor);
  add("shard groups", {dp_shard, cp}, copy);
  add("replicas", {dp_replicate}, 0);
  add("stages", {pp}, 0);
  placement.lines.push_back(groups);

  const int each = ranks_of_each(by_node);
  const bool would_fit = each > 0 && copy > each && each % (tensor * shape.size(cp)) == 0;
  if (would_fit && stage % each == 0) {
    placement.lines.push_back(
        cat("training/data_parallel_replicate_degree = ", stage / each,
            " would keep shard groups within a node (--dry-run says what a rank then holds)"));
  }
  return placement;
}

}  // namespace koios
