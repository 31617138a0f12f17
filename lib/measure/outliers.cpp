#include "measure/outliers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "comm/verdict.hpp"
#include "core/error.hpp"

namespace koios {
namespace {

/// Ranks that were measured together, and what came out.
struct Sample {
  std::vector<int> ranks;
  double value = 0;
};

std::vector<Sample> samples_of(const Measurement& m) {
  std::map<int, Sample> by_group;
  for (std::size_t rank = 0; rank < m.of_rank.size(); ++rank) {
    const int number = static_cast<int>(rank);
    Sample& sample = by_group[m.group_of_rank.empty() ? number : m.group_of_rank[rank]];
    const bool is_worse = sample.ranks.empty() || m.of_rank[rank] < sample.value;
    if (is_worse) sample.value = m.of_rank[rank];  // a collective is as slow as its slowest rank
    sample.ranks.push_back(number);
  }
  std::vector<Sample> samples;
  for (auto& [group, sample] : by_group) samples.push_back(std::move(sample));
  return samples;
}

/// From the worst to the best.
void sort(std::vector<Sample>& samples, Measurement::Kind kind) {
  std::stable_sort(samples.begin(), samples.end(), [&](const Sample& a, const Sample& b) {
    return kind == Measurement::Kind::rate ? a.value < b.value
                                           : std::abs(a.value) > std::abs(b.value);
  });
}

/// Of two in the middle the better one: then the worse of two ranks can be an outlier.
double median(const std::vector<Sample>& sorted) { return sorted[sorted.size() / 2].value; }

std::string number(double value) {
  const int digits = std::abs(value) >= 100 ? 0 : std::abs(value) >= 10 ? 1 : 3;
  return fmt::format("{:.{}f}", value, digits);
}

}  // namespace

std::vector<Outlier> find_outliers(const Measurement& m) {
  std::vector<Sample> samples = samples_of(m);
  if (samples.empty()) return {};
  sort(samples, m.kind);
  const double middle = median(samples);
  std::vector<Outlier> outliers;
  for (const Sample& sample : samples) {
    const bool is_rate = m.kind == Measurement::Kind::rate;
    const bool is_outlier =
        is_rate ? sample.value < m.bound * middle : std::abs(sample.value) > m.bound;
    if (!is_outlier) continue;
    const std::string than = is_rate ? cat(" where the median is ", number(middle))
                                     : cat(", more than ", number(m.bound));
    outliers.push_back({sample.ranks, cat(number(sample.value), " ", m.unit, than)});
  }
  return outliers;
}

std::string measurement_table(std::span<const Measurement> measurements) {
  std::size_t width = 4;
  for (const Measurement& m : measurements) width = std::max(width, m.name.size());
  const auto row = [&](const std::string& name, const std::string& unit, const std::string& worst,
                       const std::string& middle, const std::string& best, const std::string& who) {
    return fmt::format("{:<{}}  {:<8} {:>10} {:>10} {:>10}  {}", name, width, unit, worst, middle,
                       best, who);
  };
  std::string table = row("what", "unit", "worst", "median", "best", "worst on");
  for (const Measurement& m : measurements) {
    std::vector<Sample> samples = samples_of(m);
    if (samples.empty()) continue;
    sort(samples, m.kind);
    const bool is_any_worst = samples.front().value != samples.back().value;
    table += "\n" + row(m.name, m.unit, number(samples.front().value), number(median(samples)),
                        number(samples.back().value),
                        is_any_worst ? name_ranks(samples.front().ranks) : "-");
  }
  return table;
}

}  // namespace koios
