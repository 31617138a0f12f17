// metrics.jsonl in the run folder: append-only, one JSON object a logged step, flushed row by row.
// Rank 0 only; it takes values already reduced over the ranks. docs/outputs.md is its description.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>

#include "metrics/run_folder.hpp"
#include "runtime/file.hpp"

namespace koios {

/// Nothing, where the quantity is not known, becomes null.
struct Metric {
  std::string_view key;
  std::optional<double> value;
};

/// A quantity of which every rank has its own, in the order of the ranks.
struct MetricByRank {
  std::string_view key;
  std::span<const double> values;
};

class MetricsWriter {
 public:
  /// Continues the file of an earlier run; half a row that a killed job left is taken away.
  /// UserError where the file there is none of a run: it is left as it is.
  explicit MetricsWriter(const RunFolder& folder);

  /// {"step": s, "time": Unix seconds, "run": n, <the metrics in their order>}. NaN and infinities
  /// become null and are named in an object "nonfinite" at the end of the row. by_rank: lists,
  /// their numbers rounded to 6 digits. Throws UserError if the row cannot be written whole; the
  /// file then ends with the row before.
  void row(std::int64_t step, std::span<const Metric> metrics,
           std::span<const MetricByRank> by_rank = {});
  void row(std::int64_t step, std::initializer_list<Metric> metrics) {
    row(step, std::span<const Metric>(metrics.begin(), metrics.size()));
  }

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  int run_;
};

}  // namespace koios
