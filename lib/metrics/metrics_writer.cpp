#include "metrics/metrics_writer.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.hpp"
#include "core/log.hpp"

namespace koios {
namespace {

using Json = nlohmann::ordered_json;

double unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

std::string nonfinite_name(double value) {
  if (std::isnan(value)) return "nan";
  return value > 0 ? "inf" : "-inf";
}

/// Bytes up to and with the last newline.
off_t end_of_last_row(int fd, off_t size) {
  char block[4096];
  while (size > 0) {
    const off_t start = std::max<off_t>(0, size - static_cast<off_t>(sizeof block));
    const ssize_t n = ::pread(fd, block, static_cast<std::size_t>(size - start), start);
    if (n != size - start) return -1;
    for (ssize_t i = n; i > 0; --i) {
      if (block[i - 1] == '\n') return start + i;
    }
    size = start;
  }
  return 0;
}

void drop_half_row(int fd, const std::filesystem::path& path) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return;
  const off_t end = end_of_last_row(fd, status.st_size);
  if (end == status.st_size) return;
  if (end < 0 || ::ftruncate(fd, end) != 0) {
    throw UserError(cat("cannot continue ", path.string(), ": ", std::strerror(errno)));
  }
  log::warning(path.string(), " ended in half a row of an earlier run; it is removed");
}

}  // namespace

MetricsWriter::MetricsWriter(const RunFolder& folder)
    : path_(folder.file("metrics.jsonl")),
      file_(::open(path_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666)),
      run_(folder.run()) {
  if (!file_) throw UserError(cat("cannot write ", path_.string(), ": ", std::strerror(errno)));
  drop_half_row(file_.get(), path_);
}

void MetricsWriter::row(std::int64_t step, std::span<const Metric> metrics) {
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
  if (!nonfinite.is_null()) row["nonfinite"] = nonfinite;

  struct stat before = {};
  const bool regular = ::fstat(file_.get(), &before) == 0 && S_ISREG(before.st_mode);
  if (!write_all(file_.get(), row.dump() + "\n")) {
    const int error = errno;
    // Best effort: a row cut short is also removed by the next start.
    if (regular && ::ftruncate(file_.get(), before.st_size) != 0) errno = error;
    throw UserError(cat("cannot write ", path_.string(), ": ", std::strerror(error)));
  }
}

}  // namespace koios
