#include "metrics/timers.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "core/error.hpp"

namespace koios {
namespace {

TEST(Timers, add_up_in_the_order_of_their_names) {
  Timers timers{"step", "data", "communication"};
  timers.add("data", 0.25);
  timers.add("step", 1);
  timers.add("data", 0.5);
  const Timers::Totals expected = {{"step", 1}, {"data", 0.75}, {"communication", 0}};
  EXPECT_EQ(timers.totals(), expected);
  EXPECT_EQ(timers.total("data"), 0.75);
}

TEST(Timers, a_lap_counts_from_the_lap_before) {
  Timers timers{"data"};
  timers.add("data", 1);
  EXPECT_EQ(timers.lap(), (Timers::Totals{{"data", 1}}));
  EXPECT_EQ(timers.lap(), (Timers::Totals{{"data", 0}}));
  timers.add("data", 2);
  EXPECT_EQ(timers.lap(), (Timers::Totals{{"data", 2}}));
  EXPECT_EQ(timers.totals(), (Timers::Totals{{"data", 3}}));
}

TEST(Timers, a_scope_adds_its_own_time) {
  using namespace std::chrono_literals;
  Timers timers{"outer", "inner"};
  {
    const auto outer = timers.scope("outer");
    const auto inner = timers.scope("inner");
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_GE(timers.total("inner"), 0.020);
  EXPECT_GE(timers.total("outer"), timers.total("inner"));
}

TEST(Timers, an_unknown_name_is_a_defect) {
  Timers timers{"data"};
  EXPECT_THROW(timers.add("dta", 1), InvariantError);
}

TEST(TimerTable, aligns_and_shows_shares) {
  const std::vector<TimerRow> rows = {{"step", 10, 10.5, 11}, {"gradient reduction", 0.5, 1.05, 2}};
  EXPECT_EQ(timer_table(rows, 10.5),
            "timer                    min s       avg s       max s   avg %\n"
            "step                    10.000      10.500      11.000   100.0\n"
            "gradient reduction       0.500       1.050       2.000    10.0");
  EXPECT_EQ(timer_table({}, 0), "timer       min s       avg s       max s   avg %");
}

}  // namespace
}  // namespace koios
