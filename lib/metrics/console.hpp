// What a person sees of training: one aligned line a logged step and, on a terminal, a progress bar
// below it. Rank 0 only; plain lines when piped.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/stopwatch.hpp"

namespace koios {

/// Values already reduced over the ranks; what is not known is printed as n/a.
struct StepLine {
  std::int64_t step = 0, steps = 0;
  double loss = 0;
  std::optional<double> grad_norm, lr, step_time_s, tok_per_s_per_rank, mfu_pct, peak_gib;
};

/// "step    10/1000 | loss  8.1342 | ...", columns aligned from line to line; no newline.
std::string format_step_line(const StepLine& line, bool color);

struct ValidationLine {
  std::int64_t step = 0, steps = 0;
  double loss = 0, perplexity = 0;
  std::int64_t sequences = 0;
  double seconds = 0;
};

/// "step    10/1000 | validation loss 8.1342 | perplexity ...", under the step's own line.
std::string format_validation_line(const ValidationLine& line, bool color);

struct Progress {
  std::int64_t first = 0, step = 0, steps = 0;  // done before this start, done now, wanted
  double elapsed_s = 0;                         // since this start
};

/// "[=====>     ]  42%  420/1000  ETA 1m 20s", at most `width` columns.
std::string format_progress(const Progress& progress, int width);

/// "45s", "3m 05s", "2h 07m", "3d 04h".
std::string format_duration(double seconds);

class Console {
 public:
  struct Settings {
    bool shown = true;            // this rank prints
    bool color = false;           // ANSI colours
    bool progress = false;        // standard output is a terminal
    std::int64_t first_step = 0;  // steps done before this start
    std::int64_t steps = 0;
  };
  explicit Console(const Settings& settings) : settings_(settings) {}
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;
  ~Console() { clear_progress(); }

  void step_line(const StepLine& line);
  void validation_line(const ValidationLine& line);
  /// After every step: cheap, since the bar is redrawn at most ten times a second.
  void progress(std::int64_t step);
  /// Takes the bar away, for instance before other output.
  void clear_progress();

 private:
  void draw(std::int64_t step);
  void write_line(std::int64_t step, const std::string& text);

  Settings settings_;
  Stopwatch since_start_;
  Stopwatch since_drawn_;
  bool drawn_ = false;
  std::int64_t last_step_ = 0;
};

}  // namespace koios
