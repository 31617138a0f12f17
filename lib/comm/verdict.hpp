// Why a job stands still, in one line, out of what is known of its ranks.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "comm/rank_state.hpp"

namespace koios {

/// "rank 3 on n2 is stopped (SIGSTOP or a debugger); it never entered all_gather 812 of
/// shard_gather, where ranks 0-2 wait (step 12, forward layers.3); last sign of it 41 s ago: step
/// 12, waiting for data". states: of the ranks that can be seen, in any order; ranks: of the job.
std::string verdict(std::span<const RankState> states, int ranks, double now_s);

/// What a rank is said to do that waits for samples which `reader` reads for it: of the two,
/// verdict() blames the reader.
std::string waiting_for_data(int rank, int reader);

/// One rank: "rank 2 on n1: step 12, forward layers.3, for 3.1 s; waits in all_gather 812 of
/// shard_gather (8000 bytes) for 3.0 s".
std::string describe(const RankState& state, double now_s);

/// "0-2, 5".
std::string describe_ranks(std::vector<int> ranks);
/// "rank 3", "ranks 0-2, 5".
std::string name_ranks(const std::vector<int>& ranks);

}  // namespace koios
