#include "comm/verdict.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <vector>

namespace koios {
namespace {

constexpr double kNow = 1000;

/// A rank of one group of all, that has issued and finished so many calls.
RankState rank(int number, std::int64_t issued, std::int64_t done, const std::string& place) {
  RankState state;
  state.rank = number;
  state.host = number < 2 ? "n1" : "n2";
  state.place = place;
  state.process = 'S';
  state.entered_s = state.last_s = kNow - 10;
  state.groups = 1;
  state.group[0].name = "world";
  state.group[0].size = 4;
  state.group[0].issued = issued;
  state.group[0].done = done;
  state.group[0].bytes = 64;
  state.group[0].issued_s = kNow - 9;
  return state;
}

TEST(Verdict, names_the_rank_that_did_not_come) {
  std::vector<RankState> states = {rank(0, 7, 6, "step 2, backward"), rank(1, 7, 6, "backward"),
                                   rank(2, 6, 6, "waiting for data"), rank(3, 7, 6, "backward")};
  EXPECT_EQ(verdict(states, 4, kNow),
            "rank 2 on n2 never entered all_gather 7 of world, where ranks 0, 1, 3 wait (step 2, "
            "backward); last sign of it 10.0 s ago: waiting for data");
  states[2].process = 'D';
  EXPECT_EQ(verdict(states, 4, kNow).find("rank 2 on n2 hangs inside of the system"), 0U);
  states[2].process = 'X';
  EXPECT_EQ(verdict(states, 4, kNow).find("rank 2 on n2 has died; it never entered"), 0U);
}

TEST(Verdict, a_stop_that_was_asked_for_is_no_death) {
  std::vector<RankState> states = {rank(0, 7, 6, "a"), rank(1, 6, 6, "b"), rank(2, 6, 6, "b"),
                                   rank(3, 7, 6, "a")};
  states[1].process = 'X';
  states[2].ending = -SIGTERM;  // its end is what the other died of
  EXPECT_EQ(verdict(states, 4, kNow),
            "rank 2 on n2 was stopped by SIGTERM, and the same command goes on; it never entered "
            "all_gather 7 of world, where ranks 0, 3 wait (a); last sign of it 10.0 s ago: b; also "
            "rank 1");
  EXPECT_EQ(describe(states[2], kNow),
            "rank 2 on n2 was stopped by SIGTERM, and the same command goes on: b, for 10.0 s");
}

TEST(Verdict, follows_who_waits_for_whom) {
  // Rank 3 waits for rank 2 in another group, and is itself waited for.
  std::vector<RankState> states = {rank(0, 7, 6, "a"), rank(1, 7, 6, "a"), rank(2, 6, 6, "b"),
                                   rank(3, 6, 6, "c")};
  for (const int r : {2, 3}) {
    RankState& state = states[static_cast<std::size_t>(r)];
    state.groups = 2;
    state.group[1] = state.group[0];
    state.group[1].name = "pair";
    state.group[1].first_rank = 2;
  }
  states[3].group[1].issued = 7;
  EXPECT_EQ(verdict(states, 4, kNow).find("rank 2 on n2 never entered"), 0U);
}

/// Adds a call of a pair of ranks to what the rank waits in.
void add_pair(RankState& state, const char* name, CommOp op, std::int64_t issued, double issued_s) {
  GroupState& group = state.group[static_cast<std::size_t>(state.groups++)];
  group.name = name;
  group.size = 2;
  group.op = op;
  group.issued = issued;
  group.done = issued - 1;
  group.bytes = 64;
  group.issued_s = issued_s;
}

TEST(Verdict, a_send_and_its_receive_are_one_call) {
  std::vector<RankState> states = {rank(0, 6, 6, "send layers.1, micro-batch 2 on stage 0"),
                                   rank(1, 6, 6, "forward layers.2, micro-batch 2 on stage 1")};
  add_pair(states[0], "activations", CommOp::send, 3, kNow - 8);
  add_pair(states[1], "activations", CommOp::recv, 3, kNow - 8);
  EXPECT_EQ(verdict(states, 2, kNow),
            "all ranks have entered send 3 of activations (send layers.1, micro-batch 2 on stage "
            "0), 8.0 s ago: the machine is slow, or a link between them is broken");
  // The send may be through; what rank 0 waits for is the gradient.
  add_pair(states[0], "gradients", CommOp::recv, 2, kNow - 7);
  add_pair(states[1], "gradients", CommOp::send, 1, kNow - 20);
  states[1].group[2].done = 1;
  states[1].process = 'T';
  EXPECT_EQ(
      verdict(states, 2, kNow),
      "rank 1 on n1 is stopped (SIGSTOP or a debugger); it never entered recv 2 of gradients, "
      "where rank 0 waits (send layers.1, micro-batch 2 on stage 0); last sign of it 10.0 s "
      "ago: forward layers.2, micro-batch 2 on stage 1");
}

TEST(Verdict, ranks_of_a_lost_node) {
  const std::vector<RankState> states = {rank(0, 7, 6, "a"), rank(1, 7, 6, "a")};
  EXPECT_EQ(verdict(states, 4, kNow),
            "ranks 2, 3 give no sign: is their node lost, or cut off from the others?");
  EXPECT_EQ(verdict(states, 2, kNow).find("all ranks have entered all_gather 7 of world"), 0U);
}

TEST(Verdict, without_a_call_the_one_that_is_elsewhere) {
  std::vector<RankState> states = {rank(0, 6, 6, "saving"), rank(1, 6, 6, "saving"),
                                   rank(2, 6, 6, "validation")};
  EXPECT_EQ(verdict(states, 3, kNow),
            "rank 2 on n2 is at: validation, for 10.0 s, while ranks 0, 1 are at: saving");
  EXPECT_EQ(verdict({}, 3, kNow), "nothing is known of any rank");
}

TEST(Verdict, blames_nobody_who_is_given_samples_for_being_late_with_them) {
  const std::string given = "step 2, " + waiting_for_data(3, 2);
  // Rank 3 takes what rank 2 reads, and comes first in the group that waits for both.
  std::vector<RankState> states = {rank(0, 7, 6, "a"), rank(1, 7, 6, "a"), rank(3, 6, 6, given),
                                   rank(2, 6, 6, waiting_for_data(2, 2))};
  EXPECT_EQ(verdict(states, 4, kNow).find("rank 2 on n2 never entered"), 0U);

  states = {rank(0, 6, 6, "opening the data"), rank(1, 6, 6, "waiting for the data of rank 0"),
            rank(2, 6, 6, "opening the data"), rank(3, 6, 6, "waiting for the data of rank 2")};
  EXPECT_EQ(verdict(states, 4, kNow),
            "ranks 0, 2 are at: opening the data, for 10.0 s, while ranks 1, 3 are at: waiting for "
            "the data of rank 0");
  states.resize(2);
  EXPECT_EQ(verdict(states, 2, kNow),
            "rank 0 on n1 is at: opening the data, for 10.0 s, while rank 1 is at: waiting for the "
            "data of rank 0");
}

TEST(Verdict, lists_of_ranks) {
  EXPECT_EQ(describe_ranks({5, 0, 1, 2}), "0-2, 5");
  EXPECT_EQ(describe_ranks({3, 4}), "3, 4");
}

}  // namespace
}  // namespace koios
