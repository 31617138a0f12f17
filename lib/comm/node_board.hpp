// What each rank of a node does, in memory that they share: to be read when one of them is stopped,
// dead, or deep in a library. Nothing of it stays behind, however the processes end.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "comm/rank_state.hpp"
#include "runtime/handle.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

class NodeBoard {
 public:
  /// Collective over the job. Where the node has no memory to share, the rank sees itself alone.
  explicit NodeBoard(const MpiEnv& mpi);
  NodeBoard(const NodeBoard&) = delete;
  NodeBoard& operator=(const NodeBoard&) = delete;
  ~NodeBoard();

  RankState& mine() { return *mine_; }
  /// Becomes 1 once a rank of the node says why the job ends.
  std::int32_t& is_told() { return all_.front().is_told; }
  /// A copy of all of the node's that can be seen, with what the system says of their processes.
  std::vector<RankState> read() const;
  int ranks() const { return ranks_; }
  int nodes() const { return nodes_; }

  /// Leaves what is known of this node where the speakers of other nodes find it.
  void write(const std::filesystem::path& folder) const;
  /// What the nodes have left in this start of the job, also of this one.
  std::vector<RankState> read_nodes(const std::filesystem::path& folder) const;

 private:
  int ranks_;
  int nodes_ = 1;
  int first_rank_ = 0;        // of the node
  std::int64_t job_ = 0;      // tells this start from others in the folder
  std::span<RankState> all_;  // of the node, in shared memory
  RankState own_;             // where there is none
  RankState* mine_ = &own_;
};

}  // namespace koios
