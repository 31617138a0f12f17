// How long the job may still run: [job] walltime, or what the batch system says of the job's end.
#pragma once

#include <string>

#include "config/wall_time.hpp"
#include "core/phase_clock.hpp"
#include "runtime/launch_check.hpp"

namespace koios {

class JobTime {
 public:
  /// The earlier of `limit`, counted from the launch, and Slurm's SLURM_JOB_END_TIME. The system's
  /// clock is read once, here; from then on a monotonic one counts.
  JobTime(const PhaseClock& since_launch, const WallTime& limit, const EnvLookup& env);

  /// Seconds; infinity where nothing limits.
  double left_s() const;
  /// What limits ("job/walltime"); empty where nothing does.
  const std::string& source() const { return source_; }

 private:
  const PhaseClock& since_launch_;
  double end_s_;  // after the launch
  std::string source_;
};

}  // namespace koios
