// The batches of one data-parallel rank, made on a prefetch thread. With G = batch_size * dp *
// gradient_accumulation, step s is samples s*G .. s*G+G-1 of the logical sequence; rank r has the
// r-th contiguous part of them, and its m-th micro-batch the m-th batch_size of that part. Ranks
// that share sequences read the same samples, and each keeps its own tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <vector>

#include "data/batch.hpp"
#include "data/data_options.hpp"
#include "data/prefetcher.hpp"
#include "data/sample_sequence.hpp"
#include "data/tokenizer.hpp"

namespace koios {

class DataLoader {
 public:
  /// Starts at `start`, a state() of a loader over the same data on any mesh whose steps end there;
  /// the default is the beginning. `tokenizer` must outlive the loader. Reading starts at once;
  /// errors in options and paths are thrown here, those in the data by next().
  DataLoader(const DataOptions& options, const Tokenizer& tokenizer, int dp_rank, int dp_size,
             const SequenceState& start = {}, const SequencePart& part = {});

  /// The next micro-batch of this rank.
  Batch next();

  /// Where the step after those handed out starts. Not inside a step. To be saved, the states of
  /// all ranks are made one by furthest() (saved_position.hpp).
  const SequenceState& state() const;
  /// Of the last batch: passes over the data completed. It grows when the data starts to repeat.
  std::int64_t epoch() const { return epoch_; }
  /// Logical streams in use.
  std::int64_t streams() const { return streams_; }
  /// Seconds that next() has waited, in total.
  double wait_seconds() const { return prefetcher_.wait_seconds(); }

 private:
  std::optional<Batch> make_batch(const std::stop_token& stop);
  bool skip(std::int64_t samples, const std::stop_token& stop);

  // Used by the prefetch thread alone once it runs.
  std::int64_t batch_size_;
  std::int64_t seq_len_;
  SequencePart part_;
  std::int64_t micro_batches_;   // per step
  std::int64_t samples_before_;  // of lower ranks in each step
  std::int64_t samples_after_;   // of higher ranks
  std::int64_t micro_batch_ = 0;
  SampleSequence sequence_;

  std::int64_t streams_;
  SequenceState state_;
  bool inside_step_ = false;
  std::int64_t epoch_ = 0;
  Prefetcher prefetcher_;  // last: its thread uses what is above
};

}  // namespace koios
