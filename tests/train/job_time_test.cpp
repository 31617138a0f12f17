#include "train/job_time.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <string>

namespace koios {
namespace {

struct Told {
  double left_s;
  std::string source;
};

Told told(std::int64_t limit_s, const std::string& slurm_end) {
  const PhaseClock clock;
  const JobTime time(clock, {limit_s}, [&](const char* name) -> const char* {
    return name == std::string("SLURM_JOB_END_TIME") && !slurm_end.empty() ? slurm_end.c_str()
                                                                           : nullptr;
  });
  return {time.left_s(), time.source()};
}

std::string from_now(std::int64_t seconds) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now).count() + seconds);
}

TEST(JobTime, nothing_limits) {
  for (const char* no_time : {"", "UNLIMITED", "0", "-5", "12x"}) {
    EXPECT_TRUE(std::isinf(told(0, no_time).left_s)) << no_time;
    EXPECT_EQ(told(0, no_time).source, "");
  }
}

TEST(JobTime, the_earlier_end_counts) {
  const Told by_deck = told(100, from_now(1000));
  EXPECT_NEAR(by_deck.left_s, 100, 2);
  EXPECT_EQ(by_deck.source, "job/walltime");
  const Told by_slurm = told(2000, from_now(1000));
  EXPECT_NEAR(by_slurm.left_s, 1000, 2);
  EXPECT_EQ(by_slurm.source, "SLURM_JOB_END_TIME");
  EXPECT_LT(told(0, from_now(-7)).left_s, 0);
}

}  // namespace
}  // namespace koios
