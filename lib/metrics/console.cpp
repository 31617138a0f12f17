#include "metrics/console.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/error.hpp"
#include "metrics/terminal.hpp"

namespace koios {
namespace {

constexpr double kRedrawPeriod_s = 0.1;
constexpr const char* kEraseLine = "\r\033[K";

constexpr const char* kCyan = "\033[36m";
constexpr const char* kGreen = "\033[32m";
constexpr const char* kBlue = "\033[34m";
constexpr const char* kMagenta = "\033[35m";
constexpr const char* kYellow = "\033[33m";

/// n/a, or the value right-aligned; scientific where `format` would leave only zeros.
std::string number(std::optional<double> value, const char* format, double smallest, int width) {
  std::string text = "n/a";
  if (value) {
    const bool tiny = *value != 0 && std::isfinite(*value) && std::abs(*value) < smallest;
    text = fmt::format(fmt::runtime(tiny ? "{:.1e}" : format), *value);
  }
  return fmt::format("{:>{}}", text, width);
}

/// Colours off for an empty one.
std::string column(const char* color, const std::string& text, bool on) {
  return on ? cat(color, text, "\033[0m") : text;
}

std::string step_of(std::int64_t step, std::int64_t steps) {
  const std::string of = cat(steps);
  return fmt::format("step {:>{}}/{}", step, std::max<std::size_t>(5, of.size()), of);
}

/// Written at once, so that lines of other ranks do not come between.
void write_stdout(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

std::string format_step_line(const StepLine& line, bool color) {
  return cat(
      column(kCyan, step_of(line.step, line.steps), color), " | ",
      column(kGreen, cat("loss ", number(line.loss, "{:.4f}", 1e-4, 7)), color), " | grad_norm ",
      number(line.grad_norm, "{:.2f}", 0.1, 7), " | lr ", number(line.lr, "{:.2e}", 0, 8), " | ",
      number(line.step_time_s, "{:.3f}", 1e-3, 7), " s | ",
      column(kBlue, cat(number(line.tok_per_s_per_rank, "{:.0f}", 1, 6), " tok/s/rank"), color),
      " | ", column(kMagenta, cat("mfu ", number(line.mfu_pct, "{:.1f}%", 0.1, 5)), color), " | ",
      column(kYellow, cat("peak ", number(line.peak_gib, "{:.2f}", 0.01, 6), " GiB"), color));
}

std::string format_validation_line(const ValidationLine& line, bool color) {
  return cat(column(kCyan, step_of(line.step, line.steps), color), " | ",
             column(kGreen, cat("validation loss ", number(line.loss, "{:.4f}", 1e-4, 7)), color),
             " | perplexity ", number(line.perplexity, "{:.2f}", 0.01, 9), " | ", line.sequences,
             " sequences | ", number(line.seconds, "{:.3f}", 1e-3, 7), " s");
}

std::string format_duration(double seconds) {
  const long long s = std::llround(std::max(0.0, seconds));
  const long long minutes = s / 60, hours = minutes / 60, days = hours / 24;
  if (days > 0) return fmt::format("{}d {:02}h", days, hours % 24);
  if (hours > 0) return fmt::format("{}h {:02}m", hours, minutes % 60);
  if (minutes > 0) return fmt::format("{}m {:02}s", minutes, s % 60);
  return fmt::format("{}s", s);
}

std::string format_progress(const Progress& p, int width) {
  const double done = p.steps > 0 ? std::clamp(double(p.step) / double(p.steps), 0.0, 1.0) : 0.0;
  const auto here = double(p.step - p.first),
             left = double(std::max<std::int64_t>(0, p.steps - p.step));
  const std::string eta = here > 0 ? format_duration(p.elapsed_s / here * left) : "n/a";
  const std::string tail =
      fmt::format(" {:3}%  {}/{}  ETA {}", static_cast<int>(100 * done), p.step, p.steps, eta);
  const int room = std::min(60, width - static_cast<int>(tail.size()) - 2);
  if (room < 4) return tail.substr(0, static_cast<std::size_t>(std::max(0, width)));
  const auto filled = static_cast<std::size_t>(done * room);
  std::string bar(filled, '=');
  if (bar.size() < static_cast<std::size_t>(room)) bar += '>';
  bar.resize(static_cast<std::size_t>(room), ' ');
  return cat("[", bar, "]", tail);
}

void Console::write_line(std::int64_t step, const std::string& text) {
  if (!settings_.shown) return;
  const bool redraw = drawn_;
  last_step_ = step;
  clear_progress();
  write_stdout(text + "\n");
  if (redraw) draw(last_step_);
}

void Console::step_line(const StepLine& line) {
  write_line(line.step, format_step_line(line, settings_.color));
}

void Console::validation_line(const ValidationLine& line) {
  write_line(line.step, format_validation_line(line, settings_.color));
}

void Console::progress(std::int64_t step) {
  last_step_ = step;
  if (!settings_.shown || !settings_.progress) return;
  if (drawn_ && since_drawn_.seconds() < kRedrawPeriod_s) return;
  draw(step);
}

void Console::draw(std::int64_t step) {
  const Progress now{settings_.first_step, step, settings_.steps, since_start_.seconds()};
  // The cursor goes back to the first column: what anybody prints next begins there.
  write_stdout(cat(kEraseLine, format_progress(now, terminal_width() - 1), "\r"));
  since_drawn_.lap();
  drawn_ = true;
}

void Console::clear_progress() {
  if (!drawn_) return;
  write_stdout(kEraseLine);
  drawn_ = false;
}

}  // namespace koios
