// The samples of one data-parallel rank, a micro-batch at a time. With G = batch_size * dp *
// gradient_accumulation, step s is samples s*G .. s*G+G-1 of the logical sequence; rank r has the
// r-th contiguous part of them, and its m-th micro-batch the m-th batch_size of that part. Of ranks
// that share samples the first reads them; the others open no data at all.
#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <vector>

#include "data/data_options.hpp"
#include "data/sample_sequence.hpp"
#include "data/tokenizer.hpp"

namespace koios {

/// Whole sequences with the token behind each.
struct Samples {
  std::int64_t first_sample = 0;             // id of the first; the others follow
  std::int64_t epoch = 0;                    // SampleSequence::epoch
  std::optional<SequenceState> next_step;    // of a step's last micro-batch: where the next starts
  std::vector<std::int32_t> tokens;          // (batch_size, seq_len + 1)
  std::vector<std::int32_t> document_start;  // likewise: where in the sequence its document begins
};

class SampleFeed {
 public:
  /// Begins at `start`. Collective over the ranks that share samples.
  SampleFeed(const DataOptions& options, const Tokenizer& tokenizer, int dp_rank, int dp_size,
             const SequenceState& start);

  /// Where it begins: `start`, or the beginning of the data.
  const SequenceState& start() const { return start_; }
  /// The next micro-batch; nothing where it was asked to stop. For one thread.
  std::optional<Samples> next(const std::stop_token& stop);

 private:
  std::optional<Samples> read(const std::stop_token& stop);
  bool skip(std::int64_t samples, const std::stop_token& stop);

  std::int64_t batch_size_;
  std::int64_t seq_len_;
  std::int64_t micro_batches_;   // per step
  std::int64_t samples_before_;  // of lower ranks in each step
  std::int64_t samples_after_;   // of higher ranks
  std::int64_t micro_batch_ = 0;
  std::optional<SampleSequence> sequence_;  // of a rank that reads
  SequenceState start_;
  std::optional<BackgroundBroadcast> to_sharers_;
};

}  // namespace koios
