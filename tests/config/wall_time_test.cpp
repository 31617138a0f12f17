#include "config/wall_time.hpp"

#include <gtest/gtest.h>

namespace koios {
namespace {

std::string read(const std::string& text) {
  WallTime value;
  const Problem problem = parse_value(text, value);
  return problem.empty() ? show_value(value) : "<" + problem + ">";
}

TEST(WallTime, is_read_as_slurm_reads_it) {
  EXPECT_EQ(read("30"), "00:30:00");
  EXPECT_EQ(read("90"), "01:30:00");
  EXPECT_EQ(read("10:05"), "00:10:05");
  EXPECT_EQ(read("0:07"), "00:00:07");
  EXPECT_EQ(read("23:59:59"), "23:59:59");
  EXPECT_EQ(read("100:00:00"), "4-04:00:00");
  EXPECT_EQ(read("1-0"), "1-00:00:00");
  EXPECT_EQ(read("2-12"), "2-12:00:00");
  EXPECT_EQ(read("1-2:30"), "1-02:30:00");
  EXPECT_EQ(read("7-00:00:01"), "7-00:00:01");
  EXPECT_EQ(read("0"), "0");
}

TEST(WallTime, refuses_what_is_no_time) {
  for (const char* text :
       {"", "-", "1h", "1:", ":30", "1:2:3:4", "1-", "-1", "1-2-3", "1.5", " 1", "9999999999"}) {
    EXPECT_EQ(read(text), "<not a time: minutes, MM:SS, HH:MM:SS or D-HH:MM:SS>") << text;
  }
  EXPECT_EQ(read("1:60"), "<not a time: minutes, MM:SS, HH:MM:SS or D-HH:MM:SS; 60 is above 59>");
}

}  // namespace
}  // namespace koios
