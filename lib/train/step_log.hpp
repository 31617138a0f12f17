// What is told of the steps since the last line: values of all ranks brought together, one row of
// metrics.jsonl and one line on the console.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/mesh.hpp"
#include "core/stopwatch.hpp"
#include "data/batch.hpp"
#include "metrics/console.hpp"
#include "metrics/metrics_writer.hpp"
#include "metrics/timers.hpp"
#include "runtime/device.hpp"
#include "runtime/gpu_sensors.hpp"
#include "shard/exposed_wait.hpp"
#include "train/flops.hpp"
#include "train/run_state.hpp"
#include "train/slow_rank.hpp"
#include "train/step_results.hpp"
#include "train/training_shape.hpp"
#include "train/validation.hpp"

namespace koios {

/// On the host, by the calling thread's clock, since the start.
WaitSeconds host_waits(const Mesh& mesh);

class StepLog {
 public:
  struct Facts {
    std::int64_t steps = 0;            // of the whole run
    std::int64_t arena_bytes = 0;      // what the plan says
    std::int64_t device_bytes = 0;     // what the device has; 0: unknown
    std::optional<double> peak_flops;  // of one device
    std::string pci_bus;               // of the GPU; empty: none
    std::vector<std::string> hosts;    // by rank
  };
  /// start: where this start of the run began. writer: rank 0 only, else null.
  StepLog(const TrainingShape& shape, const Mesh& mesh, const Facts& facts, const RunState& start,
          MetricsWriter* writer, Console& console);

  /// Counts a micro-batch of this rank in the hash of the samples that the next line will say.
  void add_samples(const Batch& batch);

  /// Adds a step to what the next line will say. is_skipped: its update was not made.
  void add(const StepResult& result, bool is_skipped);
  /// What casts to FP8 have counted on this rank since the start.
  void set_fp8_counts(const Fp8Counts& counts) { fp8_counts_ = counts; }
  /// Adds what steps waited for communication by the device's clock (cuda).
  void add_exposed(const WaitSeconds& seconds) { exposed_ += seconds; }
  /// Adds what a step's communication took on the host.
  void add_waits(const WaitSeconds& seconds) { waits_ += seconds; }
  /// Takes time out of what the next line will say of speed, with what of it ranks met for.
  void exclude(double seconds, double of_them_meeting_s) {
    excluded_s_ += seconds;
    meetings_s_ += of_them_meeting_s;
  }
  /// Collective: writes the line for the steps added since the last. read_machine() was
  /// called before. timers: "data", "checkpoint" and, on the host, "communication" since the last
  /// line. validation: where it was measured after this step.
  void write(std::int64_t step, double lr, Timers& timers,
             const std::optional<ValidationResult>& validation = {});
  /// What the next line says of the machine. It takes milliseconds on a GPU: call it while the
  /// device still works on the step, since it then waits for the line.
  void read_machine(const DeviceEnv& device);
  /// What came since the last line does not count as training.
  void restart_clock() { since_last_.lap(); }

  /// Label tokens of all steps up to `step`, over all ranks.
  std::int64_t tokens_seen(std::int64_t step) const;
  /// The rows so far, those before this start among them; the same on every rank.
  const std::vector<LossRow>& losses() const { return losses_; }

 private:
  /// The steps since the last line, over all ranks.
  struct Interval {
    double loss, loss_max;
    double skipped_steps;
    double step_s, data_s, comm_s;  // a step
    WaitSeconds parts_s;            // the same by what was waited for
    double checkpoint_s;            // in all
    double samples_hash;
    std::array<double, kFp8Counts> fp8_counts;
    double reserved_bytes, resident_bytes;  // the most of any rank
    double free_bytes;                      // the least of any rank
    GpuReading gpu;                         // means, the highest temperature; energy: the sum
    std::vector<double> step_s_by_rank, comm_s_by_rank;
    std::vector<double> own_s_by_rank;  // without waiting for others
  };
  /// Of this rank.
  struct Machine {
    GpuReading gpu;
    std::int64_t reserved_bytes = 0, resident_bytes = 0, free_bytes = 0;
  };
  Interval bring_together(Timers& timers);
  /// Says which rank the others wait for.
  void tell_slow_rank(const Interval& all);
  void write_row(std::int64_t step, double lr, const Interval& all,
                 const std::optional<ValidationResult>& validation);
  double tokens_per_second_per_rank(const Interval& all) const;
  double flops_per_second(const Interval& all, AttentionCount count) const;  // of a rank
  std::optional<double> mfu_pct(const Interval& all, AttentionCount count) const;

  TrainingShape shape_;
  const Mesh& mesh_;
  Facts facts_;
  MetricsWriter* writer_;
  Console& console_;
  std::int64_t first_step_;     // steps done before this start
  std::int64_t tokens_before_;  // and their label tokens
  std::vector<LossRow> losses_;
  Stopwatch since_last_;
  double excluded_s_ = 0;
  std::uint64_t samples_hash_ = 0;
  std::int64_t steps_ = 0;
  double loss_sum_ = 0;
  double loss_max_ = 0;
  double grad_norm_ = 0;
  std::int64_t skipped_steps_ = 0;
  Fp8Counts fp8_counts_{}, fp8_counts_told_{};  // told: in the last line
  WaitSeconds waits_, exposed_;
  double meetings_s_ = 0;    // Communicator::host_seconds of host_world at the last line
  std::vector<int> stages_;  // by rank
  SlowRankWatch slow_rank_;
  GpuSensors sensors_;
  Machine machine_;
  std::optional<double> energy_j_;  // at the last line
};

}  // namespace koios
