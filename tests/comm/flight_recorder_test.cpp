#include "comm/flight_recorder.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace koios {
namespace {

class FlightRecorderTest : public testing::Test {
 protected:
  FlightRecorderTest() { std::filesystem::create_directories(folder_); }
  ~FlightRecorderTest() override { std::filesystem::remove_all(folder_); }

  static nlohmann::json read(const std::string& path) {
    return nlohmann::json::parse(std::ifstream(path));
  }

  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("koios_recorder_" + std::to_string(getpid()));
};

TEST_F(FlightRecorderTest, publishes_the_oldest_call_of_each_group_that_is_not_finished) {
  RankState state;
  FlightRecorder recorder(3, 100);
  recorder.publish_in(state);
  const int gather = recorder.add_communicator("shard_gather", 1, 4, 2);
  const int tp = recorder.add_communicator("tp", 0, 2, 3);
  ASSERT_EQ(state.groups, 2);
  EXPECT_EQ(state.group[0].name.str(), "shard_gather");
  EXPECT_EQ(state.group[0].first_rank, 2);
  EXPECT_FALSE(state.group[0].is_waiting());
  const auto first = recorder.issued(gather, CommOp::all_gather, 100);
  const auto other = recorder.issued(tp, CommOp::all_reduce, 200);
  const auto second = recorder.issued(gather, CommOp::reduce_scatter, 300);
  EXPECT_EQ(state.group[0].issued, 2);
  EXPECT_EQ(state.group[0].done, 0);
  EXPECT_EQ(state.group[0].bytes, 100);
  EXPECT_EQ(state.group[1].op, CommOp::all_reduce);
  recorder.completed(first);
  EXPECT_EQ(state.group[0].done, 1);
  EXPECT_EQ(state.group[0].op, CommOp::reduce_scatter);
  recorder.completed(other);
  recorder.completed(second);
  EXPECT_EQ(state.group[0].done, 2);
  EXPECT_FALSE(state.group[0].is_waiting() || state.group[1].is_waiting());
  EXPECT_EQ(state.version % 2, 0U);
}

TEST_F(FlightRecorderTest, publishes_no_more_communicators_than_there_is_room_for) {
  RankState state;
  FlightRecorder recorder(3, 100);
  recorder.publish_in(state);
  const int room = static_cast<int>(state.group.size());
  for (int i = 0; i < room + 4; ++i) recorder.add_communicator(std::to_string(i), 0, 2, 0);
  EXPECT_EQ(state.groups, room);
  EXPECT_EQ(state.group.back().name.str(), std::to_string(room - 1));
  recorder.completed(recorder.issued(room + 3, CommOp::send, 10));
  EXPECT_EQ(state.group.back().issued, 0);
}

TEST_F(FlightRecorderTest, publishes_where_the_rank_is) {
  RankState state;
  FlightRecorder recorder(3, 100);
  recorder.publish_in(state);
  EXPECT_EQ(state.place.str(), "start");
  recorder.at_step(12);
  recorder.enter("forward layers.3");
  EXPECT_EQ(state.place.str(), "step 12, forward layers.3");
  EXPECT_EQ(state.alarm_s, 0);
  recorder.raise_alarm();
  EXPECT_GT(state.alarm_s, 0);
  recorder.withdraw();
  recorder.enter("elsewhere");
  EXPECT_EQ(state.place.str(), "step 12, forward layers.3");
}

TEST_F(FlightRecorderTest, dumps_the_last_calls_in_order) {
  FlightRecorder recorder(3, 100);
  const int gather = recorder.add_communicator("shard_gather", 1, 4, 0);
  for (int i = 1; i <= 250; ++i) {
    const auto number = recorder.issued(gather, CommOp::reduce_scatter, i);
    if (i < 250) recorder.completed(number);
  }
  const std::string path = recorder.dump(folder_);
  EXPECT_EQ(path, (folder_ / "comm_trace" / "rank_3").string());
  const auto trace = read(path);
  EXPECT_EQ(trace["rank"], 3);
  EXPECT_EQ(trace["communicators"][0]["name"], "shard_gather");
  EXPECT_EQ(trace["communicators"][0]["calls"], 250);
  ASSERT_EQ(trace["calls"].size(), 100U);
  EXPECT_EQ(trace["calls"][0]["call"], 151);
  EXPECT_EQ(trace["calls"][98]["op"], "reduce_scatter");
  EXPECT_GE(trace["calls"][98]["completed_s"], trace["calls"][98]["issued_s"]);
  EXPECT_EQ(trace["calls"][99]["bytes"], 250);
  EXPECT_TRUE(trace["calls"][99]["completed_s"].is_null());
}

TEST_F(FlightRecorderTest, capacity_0_dumps_nothing_but_still_publishes) {
  RankState state;
  FlightRecorder recorder(0, 0);
  recorder.publish_in(state);
  recorder.issued(recorder.add_communicator("tp", 0, 2, 0), CommOp::broadcast, 8);
  EXPECT_EQ(recorder.dump(folder_), "");
  EXPECT_EQ(state.group[0].bytes, 8);
}

}  // namespace
}  // namespace koios
