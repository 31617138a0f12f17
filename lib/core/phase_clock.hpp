// How long the start took, phase by phase.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "core/stopwatch.hpp"

namespace koios {

class PhaseClock {
 public:
  /// What took the time since the last phase (or construction) ended.
  void done(std::string phase) { phases_.emplace_back(std::move(phase), since_last_.lap()); }

  double total_seconds() const { return whole_.seconds(); }
  /// "mpi 0.31, device 0.80, first step 3.25" in seconds.
  std::string describe() const {
    std::string text;
    for (const auto& [phase, seconds] : phases_) {
      text += fmt::format("{}{} {:.2f}", text.empty() ? "" : ", ", phase, seconds);
    }
    return text;
  }

 private:
  Stopwatch whole_;
  Stopwatch since_last_;
  std::vector<std::pair<std::string, double>> phases_;
};

}  // namespace koios
