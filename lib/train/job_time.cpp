#include "train/job_time.hpp"

#include <charconv>
#include <cstring>
#include <limits>
#include <optional>

namespace koios {
namespace {

constexpr const char* kSlurmEnd = "SLURM_JOB_END_TIME";  // seconds since 1970

std::optional<double> unix_time(const char* text) {
  if (text == nullptr) return std::nullopt;
  std::int64_t seconds = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, seconds);
  if (error != std::errc{} || stop != end || seconds <= 0) return std::nullopt;
  return static_cast<double>(seconds);
}

}  // namespace

JobTime::JobTime(const PhaseClock& since_launch, const WallTime& limit, const EnvLookup& env)
    : since_launch_(since_launch), end_s_(std::numeric_limits<double>::infinity()) {
  if (limit.seconds > 0) {
    end_s_ = static_cast<double>(limit.seconds);
    source_ = "job/walltime";
  }
  if (const std::optional<double> end = unix_time(env(kSlurmEnd))) {
    const double slurm_s = since_launch_.total_seconds() + *end - unix_seconds();
    if (slurm_s < end_s_) {
      end_s_ = slurm_s;
      source_ = kSlurmEnd;
    }
  }
}

double JobTime::left_s() const { return end_s_ - since_launch_.total_seconds(); }

}  // namespace koios
