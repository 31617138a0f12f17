#include "metrics/console.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace koios {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

StepLine example() {
  StepLine line;
  line.step = 10;
  line.steps = 1000;
  line.loss = 8.13421;
  line.grad_norm = 1.94;
  line.lr = 3e-5;
  line.step_time_s = 0.583;
  line.tok_per_s_per_rank = 14052;
  line.mfu_pct = 66.1;
  line.peak_gib = 31.2;
  return line;
}

TEST(StepLine, is_the_line_of_the_readme) {
  EXPECT_EQ(format_step_line(example(), false),
            "step    10/1000 | loss  8.1342 | grad_norm    1.94 | lr 3.00e-05 |   0.583 s |"
            "  14052 tok/s/rank | mfu 66.1% | peak  31.20 GiB");
}

TEST(ValidationLine, aligns_under_its_step) {
  EXPECT_EQ(format_validation_line({10, 1000, 5.9054, 366.999, 128, 1.25}, false),
            "step    10/1000 | validation loss  5.9054 | perplexity    367.00 | 128 sequences |"
            "   1.250 s");
}

TEST(StepLine, says_na_for_what_is_not_known) {
  StepLine line;
  line.step = 1;
  line.steps = 10;
  line.loss = 10.86;
  EXPECT_EQ(format_step_line(line, false),
            "step     1/10 | loss 10.8600 | grad_norm     n/a | lr      n/a |     n/a s |"
            "    n/a tok/s/rank | mfu   n/a | peak    n/a GiB");
}

TEST(StepLine, keeps_its_columns_over_the_range_of_values) {
  const std::size_t length = format_step_line(example(), false).size();
  StepLine line = example();
  line.step = 1000;
  line.loss = 10.8612;
  line.grad_norm = 1234.5;
  line.step_time_s = 123.4;
  line.tok_per_s_per_rank = 7.4;
  line.mfu_pct = std::nullopt;
  line.peak_gib = 141.0;
  EXPECT_EQ(format_step_line(line, false).size(), length);
  line.loss = std::numeric_limits<double>::quiet_NaN();
  line.grad_norm = 0.00312;
  EXPECT_EQ(format_step_line(line, false).size(), length);
  EXPECT_THAT(format_step_line(line, false), HasSubstr("loss     nan | grad_norm 3.1e-03"));
}

TEST(StepLine, differs_only_by_escapes_when_coloured) {
  std::string colored = format_step_line(example(), true);
  EXPECT_THAT(colored, HasSubstr("\033[32mloss"));
  for (auto at = colored.find('\033'); at != std::string::npos; at = colored.find('\033')) {
    colored.erase(at, colored.find('m', at) - at + 1);
  }
  EXPECT_EQ(colored, format_step_line(example(), false));
}

TEST(Progress, shows_percent_and_time_left_of_this_start) {
  // 20 of 80 steps since this start took 10 s; 60 are left.
  const std::string bar =
      format_progress({.first = 20, .step = 40, .steps = 100, .elapsed_s = 10}, 79);
  EXPECT_THAT(bar, StartsWith("[=="));
  EXPECT_THAT(bar, EndsWith("]  40%  40/100  ETA 30s"));
  EXPECT_LE(bar.size(), 79u);
  EXPECT_THAT(format_progress({.first = 0, .step = 0, .steps = 10}, 79), EndsWith("ETA n/a"));
  EXPECT_THAT(format_progress({.first = 0, .step = 10, .steps = 10, .elapsed_s = 5}, 79),
              EndsWith("=] 100%  10/10  ETA 0s"));
}

TEST(Progress, fits_any_width) {
  for (int width = 0; width < 200; ++width) {
    const auto bar = format_progress({.first = 0, .step = 5, .steps = 10, .elapsed_s = 1}, width);
    EXPECT_LE(bar.size(), static_cast<std::size_t>(width));
  }
}

TEST(Duration, has_two_parts) {
  EXPECT_EQ(format_duration(44.6), "45s");
  EXPECT_EQ(format_duration(185), "3m 05s");
  EXPECT_EQ(format_duration(2 * 3600 + 7 * 60), "2h 07m");
  EXPECT_EQ(format_duration(3 * 86400 + 4 * 3600), "3d 04h");
  EXPECT_EQ(format_duration(-1), "0s");
}

TEST(Console, prints_no_bar_unless_told_that_somebody_looks) {
  testing::internal::CaptureStdout();
  {
    Console console(
        {.shown = true, .color = false, .progress = false, .first_step = 0, .steps = 10});
    console.progress(1);
    console.step_line(example());
  }
  EXPECT_EQ(testing::internal::GetCapturedStdout(), format_step_line(example(), false) + "\n");
}

TEST(Console, keeps_the_bar_below_the_lines_and_takes_it_away_at_the_end) {
  testing::internal::CaptureStdout();
  {
    Console console(
        {.shown = true, .color = false, .progress = true, .first_step = 0, .steps = 10});
    console.progress(1);
    console.progress(2);  // too soon after the first to be drawn
    console.step_line(example());
  }
  const std::string out = testing::internal::GetCapturedStdout();
  EXPECT_THAT(out, StartsWith("\r\033[K["));
  EXPECT_THAT(out, HasSubstr("\r\r\033[K" + format_step_line(example(), false) + "\n\r\033[K["));
  EXPECT_THAT(out, HasSubstr("  10/10  "));  // the step of the line, not of the bar before
  EXPECT_THAT(out, EndsWith("\r\r\033[K"));
}

TEST(Console, of_a_rank_that_is_not_shown_is_silent) {
  testing::internal::CaptureStdout();
  Console console({.shown = false, .color = true, .progress = true, .first_step = 0, .steps = 10});
  console.progress(1);
  console.step_line(example());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

}  // namespace
}  // namespace koios
