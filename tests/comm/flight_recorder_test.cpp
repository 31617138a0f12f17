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

TEST_F(FlightRecorderTest, names_the_oldest_call_that_is_not_finished) {
  FlightRecorder recorder(3, 100);
  const int gather = recorder.add_communicator("shard_gather", 1, 4);
  const int tp = recorder.add_communicator("tp", 0, 2);
  EXPECT_EQ(recorder.oldest_incomplete(), "");
  const auto first = recorder.issued(gather, CommOp::all_gather, 100);
  const auto second = recorder.issued(tp, CommOp::all_reduce, 200);
  recorder.issued(gather, CommOp::all_gather, 300);
  EXPECT_EQ(recorder.oldest_incomplete().rfind(
                "call 1 of shard_gather (rank 1 of 4): all_gather of 100 bytes, issued ", 0),
            0U);
  recorder.completed(first);
  EXPECT_NE(recorder.oldest_incomplete().find("call 1 of tp"), std::string::npos);
  recorder.completed(second);
  EXPECT_NE(recorder.oldest_incomplete().find("call 2 of shard_gather"), std::string::npos);
}

TEST_F(FlightRecorderTest, dumps_the_last_calls_in_order) {
  FlightRecorder recorder(3, 100);
  const int gather = recorder.add_communicator("shard_gather", 1, 4);
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

TEST_F(FlightRecorderTest, capacity_0_dumps_nothing_but_still_names_the_call) {
  FlightRecorder recorder(0, 0);
  recorder.issued(recorder.add_communicator("tp", 0, 2), CommOp::broadcast, 8);
  EXPECT_EQ(recorder.dump(folder_), "");
  EXPECT_NE(recorder.oldest_incomplete().find("broadcast of 8 bytes"), std::string::npos);
}

}  // namespace
}  // namespace koios
