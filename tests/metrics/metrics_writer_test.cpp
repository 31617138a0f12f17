#include "metrics/metrics_writer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.hpp"
#include "metrics/metric_keys.hpp"
#include "tests/metrics/scratch_folder.hpp"

namespace koios {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;
using namespace koios::test;

std::vector<json> read_rows(const std::filesystem::path& path) {
  std::vector<json> rows;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) rows.push_back(json::parse(line));
  return rows;
}

TEST(MetricsWriter, writes_one_object_a_step_in_the_order_given) {
  const ScratchFolder scratch;
  const RunFolder folder(scratch.path());
  MetricsWriter writer(folder);
  writer.row(10, {{metric::kLossAvg, 8.25}, {metric::kMfuPct, std::nullopt}});
  const std::string text = read_text(folder.file("metrics.jsonl"));  // flushed: still open
  EXPECT_THAT(text, StartsWith("{\"step\":10,\"time\":"));
  EXPECT_THAT(text,
              HasSubstr("\"run\":1,\"loss_metrics/global_avg_loss\":8.25,\"mfu(%)\":null}\n"));
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_NEAR(json::parse(text)["time"].get<double>(), now, 5);
}

TEST(MetricsWriter, values_come_back_bit_for_bit) {
  const ScratchFolder scratch;
  const RunFolder folder(scratch.path());
  std::mt19937_64 random(3);
  std::vector<double> values = {
      0.0, 1.0 / 3, 1e300, 5e-324, -2.5e-7, 2e12, std::numeric_limits<double>::max()};
  while (values.size() < 2000) {
    const double x = std::bit_cast<double>(random());
    if (std::isfinite(x)) values.push_back(x);
  }
  {
    MetricsWriter writer(folder);
    for (std::size_t i = 0; i < values.size(); ++i) writer.row(std::int64_t(i), {{"x", values[i]}});
  }
  const auto rows = read_rows(folder.file("metrics.jsonl"));
  ASSERT_EQ(rows.size(), values.size());
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i]["x"].get<double>(), values[i]);
}

TEST(MetricsWriter, values_that_json_lacks_are_null_and_named) {
  const ScratchFolder scratch;
  const RunFolder folder(scratch.path());
  MetricsWriter writer(folder);
  const double inf = std::numeric_limits<double>::infinity();
  writer.row(1, {{"a", std::nan("")}, {"b", inf}, {"c", -inf}, {"d", 1.0}, {"e", std::nullopt}});
  const json row = read_rows(folder.file("metrics.jsonl")).at(0);
  for (const char* key : {"a", "b", "c", "e"}) EXPECT_TRUE(row.at(key).is_null()) << key;
  EXPECT_EQ(row["nonfinite"], (json{{"a", "nan"}, {"b", "inf"}, {"c", "-inf"}}));
  writer.row(2, {{"a", 1.0}});
  EXPECT_FALSE(read_rows(folder.file("metrics.jsonl")).at(1).contains("nonfinite"));
}

TEST(MetricsWriter, values_of_the_ranks_are_short_lists) {
  const ScratchFolder scratch;
  const RunFolder folder(scratch.path());
  const std::vector<double> values = {1.0 / 3, 2, 0, 1234567.8};
  const std::vector<Metric> metrics = {{"a", 1.0}};
  MetricsWriter(folder).row(1, metrics, std::vector<MetricByRank>{{"by_rank(s)", values}});
  EXPECT_THAT(read_text(folder.file("metrics.jsonl")),
              HasSubstr(R"x("a":1.0,"by_rank(s)":[0.333333,2.0,0.0,1234570.0]})x"));
}

TEST(MetricsWriter, continues_the_file_of_an_earlier_run) {
  const ScratchFolder scratch;
  for (int start = 1; start <= 2; ++start) {
    const RunFolder folder(scratch.path());
    MetricsWriter(folder).row(10 * start, {{"x", 1.0 * start}});
  }
  const auto rows = read_rows(scratch.path("metrics.jsonl"));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["run"], 1);
  EXPECT_EQ(rows[1]["run"], 2);
  EXPECT_EQ(rows[1]["step"], 20);
}

TEST(MetricsWriter, takes_away_half_a_row_of_a_killed_run) {
  const ScratchFolder scratch;
  for (const std::string& half : {std::string("{\"step\":2,\"ti"), std::string(10000, 'x')}) {
    std::filesystem::remove(scratch.path("metrics.jsonl"));
    append_text(scratch.path("metrics.jsonl"), "{\"step\":1,\"run\":1}\n" + half);
    const RunFolder folder(scratch.path());
    MetricsWriter(folder).row(2, {{"x", 1.0}});
    const auto rows = read_rows(scratch.path("metrics.jsonl"));
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[1]["step"], 2);
  }
}

TEST(MetricsWriter, a_row_for_which_there_is_no_room_leaves_no_half) {
  const ScratchFolder scratch;
  const RunFolder folder(scratch.path());
  MetricsWriter writer(folder);
  writer.row(1, {{"x", 1.0}});
  const std::string before = read_text(scratch.path("metrics.jsonl"));
  files::report_too_large_files();
  struct rlimit limit = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  const struct rlimit small = {before.size() + 10, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto message = message_of<UserError>([&] { writer.row(2, {{"x", 1.0}}); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  EXPECT_THAT(message, HasSubstr("metrics.jsonl: File too large; this process may make files of at "
                                 "most 0 KiB (ulimit -f)"));
  EXPECT_EQ(read_text(scratch.path("metrics.jsonl")), before);
}

TEST(MetricsWriter, a_file_that_is_not_of_a_run_stays_as_it_is) {
  for (const std::string& other :
       {std::string("a letter\nwithout an end"), std::string("{\"text\":\"a\"}\n"),
        "{\"step\":1}" + std::string(300000, ' ')}) {
    const ScratchFolder scratch;
    append_text(scratch.path("metrics.jsonl"), other);
    const RunFolder folder(scratch.path());
    const auto message = message_of<UserError>([&] { MetricsWriter writer(folder); });
    EXPECT_THAT(message, HasSubstr("metrics.jsonl does not hold the metrics of a run"));
    EXPECT_EQ(read_text(scratch.path("metrics.jsonl")), other);
  }
}

TEST(MetricsWriter, follows_no_link) {
  const ScratchFolder scratch;
  append_text(scratch.path("other"), "{\"step\":1}\n{\"st");
  std::filesystem::create_directory(scratch.path("run"));
  const RunFolder folder(scratch.path("run"));
  std::filesystem::create_symlink(scratch.path("other"), folder.file("metrics.jsonl"));
  const auto message = message_of<UserError>([&] { MetricsWriter writer(folder); });
  EXPECT_THAT(message, HasSubstr("metrics.jsonl is a link to " + scratch.path("other").string()));
  EXPECT_EQ(read_text(scratch.path("other")), "{\"step\":1}\n{\"st");
}

TEST(MetricsWriter, refuses_a_file_it_cannot_open) {
  const ScratchFolder scratch;
  const RunFolder folder(scratch.path());
  std::filesystem::create_directory(scratch.path("metrics.jsonl"));
  const auto message = message_of<UserError>([&] { MetricsWriter writer(folder); });
  EXPECT_THAT(message, HasSubstr(scratch.path("metrics.jsonl").string() + " is a folder"));
}

TEST(MetricsWriter, a_key_given_twice_is_a_defect) {
  const ScratchFolder scratch;
  const RunFolder folder(scratch.path());
  MetricsWriter writer(folder);
  EXPECT_THROW(writer.row(1, {{"x", 1.0}, {"x", 2.0}}), InvariantError);
  EXPECT_THROW(writer.row(1, {{"step", 1.0}}), InvariantError);
}

}  // namespace
}  // namespace koios
