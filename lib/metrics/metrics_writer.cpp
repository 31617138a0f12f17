#include "metrics/metrics_writer.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/stopwatch.hpp"

namespace koios {
namespace {

using Json = nlohmann::ordered_json;

/// To 6 digits: a list of 1,024 ranks would else be 20 KB a row.
double rounded(double value) { return std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr); }

std::string nonfinite_name(double value) {
  if (std::isnan(value)) return "nan";
  return value > 0 ? "inf" : "-inf";
}

constexpr std::string_view kRowBegin = "{\"step\":";
/// A row is shorter, its lists of 10,000 ranks among it.
constexpr std::int64_t kLongestRow = 256 * 1024;

std::string read_text(int fd, std::int64_t from, std::int64_t bytes) {
  std::string text(static_cast<std::size_t>(bytes), '\0');
  const std::int64_t n = files::read_at(fd, from, std::as_writable_bytes(std::span(text)));
  text.resize(static_cast<std::size_t>(n));
  return text;
}

/// What is not a file of rows is somebody else's and stays as it is.
void drop_half_row(int fd, const std::filesystem::path& path) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0) {
    throw UserError(cat("cannot continue ", path.string(), ": ", files::reason(errno)));
  }
  const std::int64_t size = status.st_size;
  const std::string begin = read_text(fd, 0, std::min(size, std::ssize(kRowBegin)));
  const std::int64_t tail_at = std::max<std::int64_t>(0, size - kLongestRow);
  const std::string tail = read_text(fd, tail_at, size - tail_at);
  const auto last_newline = tail.rfind('\n');
  const bool has_row = last_newline != std::string::npos;
  if (!kRowBegin.starts_with(begin) || (!has_row && tail_at > 0)) {
    throw UserError(cat(path.string(),
                        " does not hold the metrics of a run and stays as it is: move "
                        "it away, or name another folder with job/dump_folder=..."));
  }
  const std::int64_t end = has_row ? tail_at + static_cast<std::int64_t>(last_newline) + 1 : 0;
  if (end == size) return;
  if (::ftruncate(fd, end) != 0) {
    throw UserError(cat("cannot continue ", path.string(), ": ", files::reason(errno)));
  }
  log::warning(path.string(), " ended in half a row of an earlier run; it is removed");
}

}  // namespace

MetricsWriter::MetricsWriter(const RunFolder& folder)
    : path_(folder.file("metrics.jsonl")),
      file_(files::open_or_create(path_, O_APPEND)),
      run_(folder.run()) {
  drop_half_row(file_.get(), path_);
}

void MetricsWriter::row(std::int64_t step, std::span<const Metric> metrics,
                        std::span<const MetricByRank> by_rank) {
  Json row = {{"step", step}, {"time", unix_seconds()}, {"run", run_}};
  Json nonfinite;
  for (const Metric& metric : metrics) {
    const std::string key(metric.key);
    KOIOS_REQUIRE(!row.contains(key), "metric '", key, "' given twice");
    if (!metric.value) {
      row[key] = nullptr;
    } else if (std::isfinite(*metric.value)) {
      row[key] = *metric.value;
    } else {
      row[key] = nullptr;
      nonfinite[key] = nonfinite_name(*metric.value);
    }
  }
  for (const MetricByRank& metric : by_rank) {
    Json& values = row[std::string(metric.key)] = Json::array();
    for (const double value : metric.values) values.push_back(rounded(value));
  }
  if (!nonfinite.is_null()) row["nonfinite"] = nonfinite;

  const off_t before = ::lseek(file_.get(), 0, SEEK_END);
  if (!files::write_all(file_.get(), row.dump() + "\n")) {
    std::string why = files::reason(errno, file_.get());
    if (before >= 0 && ::ftruncate(file_.get(), before) != 0) why += "; it ends in half a row";
    throw UserError(cat("cannot write ", path_.string(), ": ", why));
  }
}

}  // namespace koios
