// Timelines of single steps ([profiling]): every profile_freq steps the last active_steps of them
// are recorded, after warmup_steps that are recorded and thrown away, and each rank writes
// save_traces_folder/iteration_STEP/rankR_trace.json in Chrome's trace format, which Perfetto
// opens. Lanes are the step's streams, those of links between stages too, and two of the host: data
// and checkpoint.
#pragma once

#include <filesystem>
#include <vector>

#include "config/run_config.hpp"
#include "runtime/rank_group.hpp"
#include "runtime/region.hpp"

namespace koios {

class Profiler {
 public:
  /// streams: computation first. Collective; UserError where there cannot be such a folder.
  Profiler(const ProfilingConfig& config, const std::filesystem::path& run_folder,
           const RankGroup& ranks, std::vector<Stream*> streams);

  /// Around each step; waits for the device where recording begins and ends.
  void before_step(std::int64_t step);
  /// Writes what was recorded where this step is the last of it: collective then. Where a rank
  /// cannot, that is said, and no further steps are traced: training is worth more than a trace.
  void after_step(std::int64_t step);

  /// Waiting for a micro-batch, and saving, on the host's clock.
  Region data_region() { return {data_, "wait for data"}; }
  Region checkpoint_region() { return {checkpoint_, "checkpoint"}; }

 private:
  /// Where in a round of profile_freq steps this one is, from 1.
  std::int64_t place(std::int64_t step) const { return (step - 1) % config_.profile_freq + 1; }
  void begin();
  void end();
  void write(const std::filesystem::path& folder, std::int64_t step) const;

  ProfilingConfig config_;
  std::filesystem::path folder_;
  const RankGroup& ranks_;
  int rank_;
  std::vector<Stream*> streams_;
  Stream data_;
  Stream checkpoint_;
  Trace device_trace_;
  Trace host_trace_;
  bool is_recording_ = false;
};

}  // namespace koios
