// What one look at the held-out data found.
#pragma once

#include <cmath>
#include <cstdint>

namespace koios {

struct ValidationResult {
  double loss = 0;  // mean over the label tokens of all ranks
  std::int64_t sequences = 0;
  double seconds = 0;

  double perplexity() const { return std::exp(loss); }
};

}  // namespace koios
