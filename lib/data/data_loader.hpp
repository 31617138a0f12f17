// The batches of one rank, made on a prefetch thread: of the samples of its data-parallel rank
// (sample_feed.hpp) the tokens that are this rank's.
#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <vector>

#include "data/batch.hpp"
#include "data/data_options.hpp"
#include "data/prefetcher.hpp"
#include "data/sample_feed.hpp"
#include "data/tokenizer.hpp"

namespace koios {

class DataLoader {
 public:
  /// Starts at `start`, a state() of a loader over the same data on any mesh whose steps end there;
  /// the default is the beginning. `tokenizer` must outlive the loader. Reading starts at once;
  /// errors in options and paths are thrown here, those in the data by next(), and both on the rank
  /// that reads. Making and destroying are collective over the ranks that share samples.
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
  std::int64_t streams() const { return std::ssize(state_.sources.front().streams); }
  /// Seconds that next() has waited, in total.
  double wait_seconds() const { return prefetcher_.wait_seconds(); }

 private:
  std::optional<Batch> make_batch(const std::stop_token& stop);

  std::int64_t batch_size_;
  std::int64_t seq_len_;
  SequencePart part_;
  SampleFeed feed_;  // used by the prefetch thread alone once that runs

  SequenceState state_;
  bool inside_step_ = false;
  std::int64_t epoch_ = 0;
  Prefetcher prefetcher_;  // last: its thread uses what is above
};

}  // namespace koios
