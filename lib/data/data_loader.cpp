#include "data/data_loader.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "data/embedding_index.hpp"

namespace koios {
namespace {

SampleSequence start_sequence(const DataOptions& options, const Tokenizer& tokenizer,
                              const SequenceState& start) {
  SampleSequence sequence(options, tokenizer);
  sequence.restore(start);
  return sequence;
}

}  // namespace

DataLoader::DataLoader(const DataOptions& options, const Tokenizer& tokenizer, int dp_rank,
                       int dp_size, const SequenceState& start, const SequencePart& part)
    : batch_size_(options.batch_size),
      seq_len_(options.seq_len),
      part_(part),
      micro_batches_(options.gradient_accumulation),
      samples_before_(dp_rank * batch_size_ * micro_batches_),
      samples_after_((dp_size - 1 - dp_rank) * batch_size_ * micro_batches_),
      sequence_(start_sequence(options, tokenizer, start)),
      streams_(sequence_.streams()),
      state_(sequence_.state()),
      prefetcher_([this](const std::stop_token& stop) { return make_batch(stop); },
                  narrow<std::size_t>(options.prefetch)) {
  KOIOS_REQUIRE(dp_rank >= 0 && dp_rank < dp_size, dp_rank, " of ", dp_size);
  KOIOS_REQUIRE(batch_size_ > 0 && micro_batches_ > 0, batch_size_, " x ", micro_batches_);
}

bool DataLoader::skip(std::int64_t samples, const std::stop_token& stop) {
  for (std::int64_t i = 0; i < samples && !stop.stop_requested(); ++i) sequence_.skip();
  return !stop.stop_requested();
}

std::optional<Batch> DataLoader::make_batch(const std::stop_token& stop) {
  if (micro_batch_ == 0 && !skip(samples_before_, stop)) return std::nullopt;

  Batch batch;
  batch.first_sample = sequence_.next_sample();
  batch.sequences = batch_size_;
  batch.seq_len = seq_len_;
  batch.part = part_;
  const std::int64_t chunk_len = part_.chunk_len(seq_len_);
  std::vector<std::int32_t> sample(narrow<std::size_t>(seq_len_ + 1));
  std::vector<std::int32_t> start(sample.size());
  for (std::int64_t i = 0; i < batch_size_; ++i) {
    if (stop.stop_requested()) return std::nullopt;
    sequence_.take(sample, start);
    for (int chunk = 0; chunk < part_.chunks(); ++chunk) {
      const std::int64_t begin = part_.begin(chunk, seq_len_);
      const auto append = [&](std::vector<std::int32_t>& to, const std::vector<std::int32_t>& from,
                              std::int64_t first) {
        to.insert(to.end(), from.begin() + first, from.begin() + first + chunk_len);
      };
      append(batch.tokens, sample, begin);
      append(batch.labels, sample, begin + 1);
      append(batch.document_start, start, begin);
    }
  }
  batch.epoch = sequence_.epoch();
  batch.index = make_embedding_index(batch.tokens);

  micro_batch_ = (micro_batch_ + 1) % micro_batches_;
  if (micro_batch_ == 0) {
    if (!skip(samples_after_, stop)) return std::nullopt;
    batch.next_step = sequence_.state();
  }
  return batch;
}

Batch DataLoader::next() {
  Batch batch = prefetcher_.next();
  epoch_ = batch.epoch;
  inside_step_ = !batch.next_step.has_value();
  if (batch.next_step) state_ = *batch.next_step;
  return batch;
}

const SequenceState& DataLoader::state() const {
  KOIOS_REQUIRE(!inside_step_, "the position in the data is known between steps only");
  return state_;
}

}  // namespace koios
