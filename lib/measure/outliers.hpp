// Which ranks differ from the others: a machine of many equal parts has a few that are not.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace koios {

/// One quantity as every rank, or every group of ranks, has it.
struct Measurement {
  enum class Kind {
    rate,   // more is better: an outlier has less than `bound` of the median
    offset  // zero is best: an outlier is further from it than `bound`
  };
  std::string name;  // "GEMM 8192 x 8192 x 8192, bfloat16"
  std::string unit;
  Kind kind = Kind::rate;
  double bound = 0;
  std::vector<double> of_rank = {};     // those of a group share one value
  std::vector<int> group_of_rank = {};  // empty: each rank for itself
};

struct Outlier {
  std::vector<int> ranks;
  std::string text;  // "12.1 GFLOP/s where the median is 48.0"
};

std::vector<Outlier> find_outliers(const Measurement& measurement);

/// A heading and one line a measurement: the worst and who has it ("-": all are equal), the median,
/// the best. No newline at the end.
std::string measurement_table(std::span<const Measurement> measurements);

}  // namespace koios
